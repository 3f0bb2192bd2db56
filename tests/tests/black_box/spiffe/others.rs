//! SVIDs, bundles and agents that are not ours.
