//! Settings of a case, as `key=value` with a default and an accepted range.
//!
//! Invariant: a resolved value lies in its range.

use std::fmt;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};

/// What can be set of a case.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) default: u64,
    pub(super) accepted: RangeInclusive<u64>,
}

impl Setting {
    pub(super) const fn new(
        name: &'static str,
        what: &'static str,
        default: u64,
        accepted: RangeInclusive<u64>,
    ) -> Self {
        Self { name, what, default, accepted }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (short(*self.accepted.start()), short(*self.accepted.end()));
        write!(f, "{}={} ({least} to {most}): {}", self.name, short(self.default), self.what)
    }
}

/// The settings of one run of a case.
#[derive(Debug)]
pub(super) struct Settings {
    values: Vec<(&'static str, u64)>,
}

impl Settings {
    /// The defaults with what was given in their place; the last of two equal keys holds.
    ///
    /// # Errors
    ///
    /// A value that is no number or lies outside of its range.
    pub(super) fn resolve(case: &str, settings: &[Setting], given: &[(&str, &str)]) -> Result<Self> {
        let mut values = Vec::new();
        for setting in settings {
            let mut value = setting.default;
            for (_, text) in given.iter().filter(|(key, _)| *key == setting.name) {
                value = number(text).with_context(|| format!("{}={text} of case {case}", setting.name))?;
            }
            if !setting.accepted.contains(&value) {
                let (least, most) = (setting.accepted.start(), setting.accepted.end());
                bail!("{}={value} of case {case}: accepted is {least} to {most}", setting.name);
            }
            values.push((setting.name, value));
        }
        Ok(Self { values })
    }

    /// The value of a setting that the case declares; 0 for any other.
    pub(super) fn value(&self, name: &str) -> u64 {
        self.values.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    /// [`Self::value`] as a count of things in memory.
    pub(super) fn count(&self, name: &str) -> usize {
        usize::try_from(self.value(name)).unwrap_or(usize::MAX)
    }

    pub(super) fn all(&self) -> &[(&'static str, u64)] {
        &self.values
    }
}

/// A number; k, m and g behind it are powers of 1024.
fn number(text: &str) -> Result<u64> {
    let suffixed = |(unit, shift): (char, u32)| {
        text.strip_suffix([unit, unit.to_ascii_uppercase()]).map(|digits| (digits, shift))
    };
    let (digits, shift) =
        [('k', 10), ('m', 20), ('g', 30)].into_iter().find_map(suffixed).unwrap_or((text, 0));
    let value: u64 = digits.parse().context("not a number, which may end in k, m or g")?;
    value.checked_shl(shift).filter(|shifted| shifted >> shift == value).context("more than 64 bits")
}

/// The number as one would type it.
fn short(value: u64) -> String {
    for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
        if value >= 1 << shift && value.trailing_zeros() >= shift {
            return format!("{}{unit}", value >> shift);
        }
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[Setting] = &[Setting::new("batch", "bytes of a batch", 1024, 128..=1 << 20)];

    fn batch(given: &[(&str, &str)]) -> Result<u64, String> {
        let resolved = Settings::resolve("append", SETTINGS, given);
        resolved.map(|settings| settings.value("batch")).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_setting_that_is_not_given_has_its_default() {
        assert_eq!(batch(&[("other", "1")]), Ok(1024));
    }

    #[test]
    fn k_m_and_g_are_powers_of_1024() {
        assert_eq!(batch(&[("batch", "16k")]), Ok(16384));
        assert_eq!(batch(&[("batch", "1M")]), Ok(1 << 20));
        assert_eq!(number("3g").ok(), Some(3 << 30));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_the_range() {
        let refused = "batch=5 of case append: accepted is 128 to 1048576";
        assert_eq!(batch(&[("batch", "5")]), Err(refused.to_owned()));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert!(batch(&[("batch", "many")]).unwrap_err().contains("not a number"));
        assert!(batch(&[("batch", "")]).unwrap_err().contains("not a number"));
        assert!(batch(&[("batch", "99999999999g")]).unwrap_err().contains("64 bits"));
    }

    #[test]
    fn sizes_are_listed_as_one_would_type_them() {
        let setting = Setting::new("total", "bytes a round", 512 << 20, 1..=u64::MAX);
        assert_eq!(setting.to_string(), format!("total=512m (1 to {}): bytes a round", u64::MAX));
    }
}
