//! Results of a suite, and the medians over its rounds.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conditions::Conditions;
use super::plan::Subject;

/// Everything that was measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) conditions: Conditions,
    pub(crate) runs: Vec<Run>,
}

/// One run of one case.
#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) scenario: String,
    pub(crate) subject: Subject,
    pub(crate) round: usize,
    /// The generator's numbers; null when it failed.
    pub(crate) result: Value,
    pub(crate) failure: Option<String>,
}

impl Run {
    /// A number of the result, by its path.
    pub(crate) fn number(&self, path: &str) -> Option<f64> {
        self.result.pointer(path)?.as_f64()
    }

    /// Whether the generator may have set the pace.
    pub(crate) fn generator_was_the_limit(&self) -> bool {
        self.result.get("generator_was_the_limit") == Some(&Value::Bool(true))
    }

    /// One line to follow the run by.
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{} {:>9} {:<12}",
            self.round + 1,
            self.scenario,
            self.subject.name()
        );
        if let Some(failure) = &self.failure {
            return format!("{line} FAILED: {failure}");
        }
        for (label, path) in [
            ("deliveries/s", "/deliveries_per_s"),
            ("messages/s", "/messages_per_s"),
            ("p50 µs", "/latency/p50_us"),
            ("p99 µs", "/latency/p99_us"),
            ("B/connection", "/rss_per_connection"),
            ("s", "/seconds"),
            ("gap s", "/longest_accept_gap_s"),
            ("ratio", "/ratio"),
            ("server", "/shares/server"),
            ("generator", "/shares/generator"),
            ("others", "/shares/others"),
        ] {
            if let Some(number) = self.number(path) {
                line.push_str(&format!("  {} {label}", super::table::figure(number)));
            }
        }
        if self.generator_was_the_limit() {
            line.push_str("  THE GENERATOR WAS THE LIMIT");
        }
        line
    }
}

impl Results {
    /// The runs of a case.
    pub(crate) fn of(&self, scenario: &str, subject: Subject) -> impl Iterator<Item = &Run> {
        self.runs
            .iter()
            .filter(move |run| run.scenario == scenario && run.subject == subject)
    }

    /// The median of a number.
    pub(crate) fn median(&self, scenario: &str, subject: Subject, path: &str) -> Option<f64> {
        median(
            self.of(scenario, subject)
                .filter_map(|run| run.number(path))
                .collect(),
        )
    }

    /// The median of the ratios within each round.
    pub(crate) fn ratio(&self, ours: Number<'_>, theirs: Number<'_>) -> Option<f64> {
        let ratios = self.of(ours.0, ours.1).filter_map(|run| {
            let other = self
                .of(theirs.0, theirs.1)
                .find(|other| other.round == run.round)?;
            Some(run.number(ours.2)? / other.number(theirs.2)?)
        });
        median(ratios.collect())
    }

    /// Whether the generator may have set the pace in one of a case's runs.
    pub(crate) fn generator_was_the_limit(&self, scenario: &str, subject: Subject) -> bool {
        self.of(scenario, subject).any(Run::generator_was_the_limit)
    }
}

/// Scenario, subject, path.
pub(crate) type Number<'a> = (&'a str, Subject, &'a str);

/// The median; of an even count the mean of the middle two.
pub(crate) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        count if count.is_multiple_of(2) => {
            Some(f64::midpoint(numbers[middle - 1], numbers[middle]))
        }
        _ => Some(numbers[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_stands_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
