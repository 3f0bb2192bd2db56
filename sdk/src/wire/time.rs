//! Instants and lengths of time as the wire spells them.

use std::fmt;
use std::str::FromStr;

use ::time::format_description::well_known::Rfc3339;
use ::time::{OffsetDateTime, UtcOffset};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant: an RFC 3339 string in UTC on the wire, such as `2026-01-31T09:00:00Z`.
///
/// Another offset is accepted and turned into UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// From an [`OffsetDateTime`] of any offset.
    #[must_use]
    pub fn new(at: OffsetDateTime) -> Self {
        Self(at.to_offset(UtcOffset::UTC))
    }

    /// From milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] outside the years 0 to 9999, which RFC 3339 cannot write.
    pub fn from_unix_millis(millis: i64) -> Result<Self, InvalidTimestamp> {
        let nanos = i128::from(millis).saturating_mul(1_000_000);
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| InvalidTimestamp)?;
        if (0..=9999).contains(&at.year()) { Ok(Self(at)) } else { Err(InvalidTimestamp) }
    }

    /// Milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_unix_millis(self) -> i64 {
        // The years that can be represented fit; saturating is the answer to an impossible remainder.
        i64::try_from(self.0.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(i64::MAX)
    }

    /// The instant for arithmetic and formatting, in UTC.
    #[must_use]
    pub fn as_offset_date_time(self) -> OffsetDateTime {
        self.0
    }

    /// Whole seconds from `earlier` to this instant, rounded down; zero if `earlier` is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> u64 {
        u64::try_from((self.0 - earlier.0).whole_seconds()).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // An offset can carry a parsed year past what can be written again, hence the checked conversion.
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        let at = parsed.checked_to_offset(UtcOffset::UTC).ok_or(InvalidTimestamp)?;
        if (0..=9999).contains(&at.year()) { Ok(Self(at)) } else { Err(InvalidTimestamp) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.format(&Rfc3339).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A time that is not RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time such as 2026-01-31T09:00:00Z")]
pub struct InvalidTimestamp;

/// A length of time in whole seconds: `"15m"`, `"1h30m"`, `"45s"` or a number of seconds on the wire.
///
/// Units are `d`, `h`, `m` and `s`, largest first, each at most once. It is written back in the same form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl Duration {
    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Whole seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(value: Duration) -> Self {
        Self::from_secs(value.0)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, seconds) in UNITS {
            if rest >= seconds {
                write!(f, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut units = UNITS.iter();
        let mut total: u64 = 0;
        let mut rest = text;
        if rest.is_empty() {
            return Err(InvalidDuration);
        }
        while !rest.is_empty() {
            let at = rest.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidDuration)?;
            let (digits, tail) = rest.split_at_checked(at).ok_or(InvalidDuration)?;
            let mut tail = tail.chars();
            let unit = tail.next().ok_or(InvalidDuration)?;
            // `find` on the one iterator keeps units in order and unrepeated.
            let (_, seconds) = units.find(|(name, _)| *name == unit).ok_or(InvalidDuration)?;
            let count: u64 = digits.parse().map_err(|_| InvalidDuration)?;
            total = count.checked_mul(*seconds).and_then(|part| total.checked_add(part)).ok_or(InvalidDuration)?;
            rest = tail.as_str();
        }
        Ok(Self(total))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrSeconds;
        impl Visitor<'_> for TextOrSeconds {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"15m\", or whole seconds")
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Duration, E> {
                Ok(Duration(seconds))
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Duration, E> {
                u64::try_from(seconds).map(Duration).map_err(|_| E::custom(InvalidDuration))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(TextOrSeconds)
    }
}

/// A length of time that is neither whole seconds nor like `15m`, or too long to count in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration such as 15m, 1h30m or 45s")]
pub struct InvalidDuration;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_text_or_seconds_and_written_as_text() {
        for (json, seconds, text) in [
            ("\"15m\"", 900, "15m"),
            ("\"1h30m\"", 5400, "1h30m"),
            ("\"90s\"", 90, "1m30s"),
            ("\"2d\"", 172_800, "2d"),
            ("600", 600, "10m"),
            ("0", 0, "0s"),
        ] {
            let read: Duration = serde_json::from_str(json).unwrap();
            assert_eq!(read.as_secs(), seconds, "{json}");
            assert_eq!(read.to_string(), text);
            assert_eq!(text.parse(), Ok(read));
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for json in [
            "\"\"",
            "\"15\"",
            "\"m\"",
            "\"-1s\"",
            "-1",
            "1.5",
            "\"1.5h\"",
            "\"1m1h\"",
            "\"1m1m\"",
            "\"1 m\"",
            "\"99999999999999999999s\"",
            "\"9999999999999999999d\"",
            "null",
            "\"1µ\"",
            "\"+1s\"",
        ] {
            assert!(serde_json::from_str::<Duration>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let read: Timestamp = serde_json::from_str("\"2026-01-31T10:00:00.25+01:00\"").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"2026-01-31T09:00:00.25Z\"");
        assert_eq!(Timestamp::from_unix_millis(read.as_unix_millis()), Ok(read));
        for wrong in ["\"2026-01-31\"", "\"2026-01-31T09:00:00\"", "1769850000", "\"9999-12-31T23:59:59-01:00\""] {
            assert!(serde_json::from_str::<Timestamp>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Timestamp::from_unix_millis(i64::MAX), Err(InvalidTimestamp));
    }
}
