//! Prometheus' text format, read strictly (version 0.0.4 of the exposition format).

use std::collections::{BTreeMap, BTreeSet};

/// A page of metrics in which nothing is wrong.
#[derive(Clone, Debug, Default)]
pub struct MetricsPage {
    /// Families by name.
    pub families: BTreeMap<String, Family>,
}

/// A metric with all its samples.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it says.
    pub help: String,
    /// Samples: suffix (of histograms), labels, value.
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `_bucket`, `_sum`, `_count`, or nothing.
    pub suffix: String,
    /// Labels by name.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl MetricsPage {
    /// Reads a page.
    ///
    /// # Errors
    /// The first line that breaks the format, and how.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut page = Self::default();
        let mut current: Option<String> = None;
        for (number, line) in text.lines().enumerate() {
            let at = |problem: &str| format!("line {}: {problem}: {line}", number + 1);
            if line.is_empty() {
                continue;
            }
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| at("no help text"))?;
                let family = page.families.entry(name.to_owned()).or_default();
                if !family.help.is_empty() || !family.samples.is_empty() {
                    return Err(at("a second help text, or one after samples"));
                }
                family.help = help.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| at("no type"))?;
                if !["counter", "gauge", "histogram"].contains(&kind) {
                    return Err(at("an unknown type"));
                }
                let family = page.families.entry(name.to_owned()).or_default();
                if !family.kind.is_empty() || !family.samples.is_empty() {
                    return Err(at("a second type, or one after samples"));
                }
                family.kind = kind.to_owned();
                current = Some(name.to_owned());
            } else if line.starts_with('#') {
                return Err(at("a comment that is neither help nor type"));
            } else {
                let (name, labels, value) = sample(line).ok_or_else(|| at("no sample"))?;
                let family = current.as_deref().ok_or_else(|| at("a sample without a family"))?;
                let suffix = name.strip_prefix(family).ok_or_else(|| at("a sample of another family"))?.to_owned();
                let entry = page.families.entry(family.to_owned()).or_default();
                let known: &[&str] = if entry.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                if !known.contains(&suffix.as_str()) {
                    return Err(at("a suffix that its type does not have"));
                }
                let sample = Sample { suffix, labels, value };
                if entry.samples.iter().any(|other| other.suffix == sample.suffix && other.labels == sample.labels) {
                    return Err(at("a sample twice"));
                }
                entry.samples.push(sample);
            }
        }
        page.families
            .iter()
            .try_for_each(|(name, family)| family.check().map_err(|problem| format!("{name}: {problem}")))?;
        Ok(page)
    }

    /// The sum of a metric's samples whose labels include `labels`; of a histogram, how often it was observed.
    #[must_use]
    pub fn total(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let Some(family) = self.families.get(name) else { return 0.0 };
        let counted = |sample: &&Sample| {
            (sample.suffix.is_empty() || sample.suffix == "_count")
                && labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|found| found == value))
        };
        family.samples.iter().filter(counted).map(|sample| sample.value).sum()
    }
}

impl Family {
    fn check(&self) -> Result<(), String> {
        if self.kind.is_empty() || self.help.is_empty() {
            return Err("no type or no help text".to_owned());
        }
        if self.kind != "gauge" && self.samples.iter().any(|sample| sample.value.is_nan() || sample.value < 0.0) {
            return Err("counts less than nothing".to_owned());
        }
        if self.kind == "histogram" { self.check_histogram() } else { Ok(()) }
    }

    fn check_histogram(&self) -> Result<(), String> {
        let bare = |sample: &Sample| {
            let mut labels = sample.labels.clone();
            labels.remove("le");
            labels
        };
        let series: BTreeSet<_> = self.samples.iter().map(bare).collect();
        for labels in series {
            let of = |suffix: &str| {
                self.samples
                    .iter()
                    .filter(|sample| sample.suffix == suffix && bare(sample) == labels)
                    .collect::<Vec<_>>()
            };
            let (buckets, sums, counts) = (of("_bucket"), of("_sum"), of("_count"));
            let [count] = counts.as_slice() else { return Err(format!("no count for {labels:?}")) };
            if sums.len() != 1 || buckets.is_empty() {
                return Err(format!("no sum or no buckets for {labels:?}"));
            }
            let bounds: Option<Vec<f64>> =
                buckets.iter().map(|bucket| bucket.labels.get("le").and_then(|bound| number(bound))).collect();
            let bounds = bounds.ok_or("a bucket without a bound")?;
            let rising = |values: &[f64]| values.windows(2).all(|pair| pair[0] <= pair[1]);
            let values: Vec<f64> = buckets.iter().map(|bucket| bucket.value).collect();
            if !rising(&bounds) || !rising(&values) || bounds.last() != Some(&f64::INFINITY) {
                return Err(format!("buckets of {labels:?} are not cumulative up to +Inf"));
            }
            if values.last() != Some(&count.value) {
                return Err(format!("the last bucket of {labels:?} is not its count"));
            }
        }
        Ok(())
    }
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = number(value.strip_prefix(' ')?)?;
    is_name.then(|| (name.to_owned(), labels, value))
}

/// Labels up to their closing brace, and what follows.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"")?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let (mut value, mut end, mut escaped) = (String::new(), None, false);
        for (at, c) in after.char_indices() {
            match c {
                '\\' | '"' if escaped => value.push(c),
                'n' if escaped => value.push('\n'),
                _ if escaped => return None,
                '\\' => {}
                '"' => {
                    end = Some(at + 1);
                    break;
                }
                c => value.push(c),
            }
            escaped = c == '\\' && !escaped;
        }
        if labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        rest = after.get(end?..)?;
        match rest.chars().next()? {
            ',' => rest = rest.get(1..)?,
            '}' => return Some((labels, rest.get(1..)?)),
            _ => return None,
        }
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\\\\\"} 2\na_total 1\n\n\
                        # HELP b_seconds Times.\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"1\"} 1\n\
                        b_seconds_bucket{le=\"+Inf\"} 3\nb_seconds_sum 7.5\nb_seconds_count 3\n";

    #[test]
    fn a_page_is_read_whole() {
        let page = MetricsPage::parse(GOOD).unwrap();
        assert_eq!(page.total("a_total", &[]), 3.0);
        assert_eq!(page.total("a_total", &[("y", "q\"\\")]), 2.0);
        assert_eq!(page.total("b_seconds", &[]), 3.0);
    }

    #[test]
    fn a_page_that_breaks_the_format_is_refused() {
        for (good, bad) in [
            ("# TYPE a_total counter\n", ""),
            ("# HELP a_total Things.\n", ""),
            ("a_total 1", "a_total one"),
            ("a_total 1", "a_total{x=\"1\",y=\"q\\\"\\\\\"} 3"),
            ("a_total 1", "c_total 1"),
            ("a_total 1", "a_total -1"),
            ("a_total{x=\"1\",", "a_total{x=1,"),
            ("{le=\"+Inf\"} 3", "{le=\"+Inf\"} 2"),
            ("{le=\"1\"} 1", "{le=\"1\"} 4"),
            ("b_seconds_sum 7.5\n", ""),
            ("count 3\n", "count 3"),
        ] {
            let page = GOOD.replace(good, bad);
            assert_ne!(page, GOOD, "{good}");
            assert!(MetricsPage::parse(&page).is_err(), "{good} → {bad}");
        }
    }
}
