//! HTTP: parse, call one service, map.
