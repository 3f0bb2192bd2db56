//! Points in time and lengths of time, with arithmetic that saturates: nothing overflows to "never".

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An instant in milliseconds since the Unix epoch, UTC.
///
/// Arithmetic saturates at [`Timestamp::MIN`] and [`Timestamp::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest instant that is representable.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest instant that is representable.
    pub const MAX: Self = Self(i64::MAX);

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the Unix epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant rounded down to a whole second: the precision of JWT and X.509 times.
    #[must_use]
    pub const fn floor_to_second(self) -> Self {
        Self::from_secs(self.as_secs())
    }

    /// Later by `ttl`; saturates at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.as_millis()))
    }

    /// Earlier by `ttl`; saturates at [`Timestamp::MIN`].
    #[must_use]
    pub fn minus(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_sub(ttl.as_millis()))
    }

    /// How long from `earlier` to this instant, in whole seconds rounded down; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Ttl {
        let millis = self.0.saturating_sub(earlier.0).max(0);
        Ttl::from_secs(u64::try_from(millis / 1000).unwrap_or(0))
    }

    /// RFC 3339 in UTC, for people and for the wire. Instants outside the years 0–9999 are clamped to them.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        const YEAR_9999_END: i128 = 253_402_300_799_999;
        const YEAR_0_START: i128 = -62_167_219_200_000;
        let nanos = i128::from(self.0).clamp(YEAR_0_START, YEAR_9999_END).saturating_mul(1_000_000);
        OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_else(|| "0000-01-01T00:00:00Z".to_owned())
    }

    /// Parses an RFC 3339 instant.
    ///
    /// # Errors
    /// [`InvalidTime`] when `text` is not RFC 3339.
    pub fn parse_rfc3339(text: &str) -> Result<Self, InvalidTime> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTime)?;
        let millis = parsed.unix_timestamp_nanos() / 1_000_000;
        i64::try_from(millis).map(Self).map_err(|_| InvalidTime)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// A time that is not RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time such as 2026-01-31T09:00:00Z")]
pub struct InvalidTime;

/// A length of time in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ttl(u64);

impl Ttl {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// From whole minutes; saturates.
    #[must_use]
    pub const fn from_mins(mins: u64) -> Self {
        Self(mins.saturating_mul(60))
    }

    /// From whole hours; saturates.
    #[must_use]
    pub const fn from_hours(hours: u64) -> Self {
        Self(hours.saturating_mul(3600))
    }

    /// Whole seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// Milliseconds; saturates.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX).saturating_mul(1000)
    }

    /// The sum; saturates.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// As a [`Duration`], for timers.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// Parses `"90"`, `"90s"`, `"15m"`, `"8h"` or `"30d"`.
    ///
    /// # Errors
    /// [`InvalidTtl`] for anything else: signs, fractions, spaces, several units, or a number that overflows.
    pub fn parse(text: &str) -> Result<Self, InvalidTtl> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.strip_prefix(digits).unwrap_or_default();
        let factor = match unit {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(InvalidTtl),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidTtl);
        }
        let number: u64 = digits.parse().map_err(|_| InvalidTtl)?;
        number.checked_mul(factor).map(Self).ok_or(InvalidTtl)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            s if s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            s if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

/// A length of time that is not written as a whole number with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a duration: write whole seconds or a number with one unit, such as 90, \"90s\", \"15m\", \"8h\" or \"30d\""
)]
pub struct InvalidTtl;

/// The clock of everything in Hallpass. Ambient time is banned by a lint, so that a test owns it.
pub trait Clock: Send + Sync + 'static {
    /// The wall-clock time.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start that never steps: for deadlines and for noticing that the wall clock stepped.
    fn monotonic(&self) -> Duration;
}

/// Notices that the wall clock stepped forward against the monotonic one.
///
/// A step of more than [`ClockWatch::TOLERANCE`] would, if believed, end every live grant at once. Until somebody
/// confirms it, mass expiry and purging pause (promise 5); each credential still dies at its own verifier.
#[derive(Debug)]
pub struct ClockWatch {
    wall: Timestamp,
    monotonic: Duration,
    stepped_by: Option<Ttl>,
}

impl ClockWatch {
    /// How far the wall clock may run ahead of the monotonic clock: more than NTP slewing and a suspended laptop's
    /// timer jitter, less than the shortest role TTL in common use.
    pub const TOLERANCE: Ttl = Ttl::from_secs(60);

    /// Starts to watch from the present reading of `clock`.
    #[must_use]
    pub fn new(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic(), stepped_by: None }
    }

    /// Takes a reading. `Some(step)` while an unconfirmed forward step stands.
    pub fn observe(&mut self, clock: &dyn Clock) -> Option<Ttl> {
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        let elapsed = Ttl::from_secs(monotonic.saturating_sub(self.monotonic).as_secs());
        let ahead = wall.since(self.wall.plus(elapsed));
        if ahead > Self::TOLERANCE {
            self.stepped_by = Some(ahead);
        } else if self.stepped_by.is_some() {
            // The clock came back by itself: the step was the error.
            self.stepped_by = None;
        } else {
            (self.wall, self.monotonic) = (wall, monotonic);
        }
        self.stepped_by
    }

    /// An operator says that the present wall clock is right.
    pub fn confirm(&mut self, clock: &dyn Clock) {
        *self = Self::new(clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MockClock;

    #[test]
    fn durations_are_whole_numbers_with_one_unit() {
        assert_eq!(Ttl::parse("90"), Ok(Ttl::from_secs(90)));
        assert_eq!(Ttl::parse("15m"), Ok(Ttl::from_mins(15)));
        assert_eq!(Ttl::parse("8h"), Ok(Ttl::from_hours(8)));
        assert_eq!(Ttl::parse("30d"), Ok(Ttl::from_hours(720)));
        for bad in ["", "m", "-5m", "+5m", "1.5h", "5 m", "5m5s", "5M", "99999999999999999999", "18446744073709551615d"]
        {
            assert_eq!(Ttl::parse(bad), Err(InvalidTtl), "{bad:?}");
        }
    }

    #[test]
    fn arithmetic_saturates_and_never_wraps_to_the_past() {
        assert_eq!(Timestamp::MAX.plus(Ttl::from_secs(u64::MAX)), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.minus(Ttl::from_secs(u64::MAX)), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Ttl::ZERO);
        assert_eq!(Timestamp::from_millis(-1).as_secs(), -1);
    }

    #[test]
    fn a_forward_step_of_the_wall_clock_is_reported_until_confirmed() {
        let clock = MockClock::starting_at(Timestamp::from_secs(1_000));
        let mut watch = ClockWatch::new(&clock);
        clock.advance(Ttl::from_hours(5));
        assert_eq!(watch.observe(&clock), None, "both clocks moved: that is time, not a step");
        clock.step_wall(Ttl::from_hours(2));
        assert_eq!(watch.observe(&clock), Some(Ttl::from_hours(2)));
        clock.advance(Ttl::from_mins(10));
        assert!(watch.observe(&clock).is_some(), "waiting does not confirm a step");
        watch.confirm(&clock);
        assert_eq!(watch.observe(&clock), None);
    }
}
