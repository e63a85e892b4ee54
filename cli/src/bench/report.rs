//! What a case found: figures of the limit and of the engine, how they compare, and what they must reach.
//!
//! Invariant: pure data; `emit` prints it.

use super::rounds::Sample;

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// Which part of the case, where it has more than one.
    pub(super) part: Option<&'static str>,
    pub(super) metric: &'static str,
    pub(super) unit: &'static str,
    /// What the engine is compared with, and how that did.
    pub(super) limit: Option<(&'static str, Sample)>,
    pub(super) engine: Sample,
    pub(super) target: Option<Target>,
    comparison: Comparison,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    /// Engine over limit.
    Ratio,
    /// Engine less limit.
    Difference,
    /// The engine's figure as it is.
    Alone,
}

/// What the comparison must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub(super) fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    pub(super) fn value(self) -> f64 {
        match self {
            Self::AtLeast(value) | Self::AtMost(value) => value,
        }
    }

    pub(super) fn direction(self) -> &'static str {
        match self {
            Self::AtLeast(_) => "at least",
            Self::AtMost(_) => "at most",
        }
    }
}

impl Row {
    /// The engine's figures over those of the limit.
    pub(super) fn ratio(
        metric: &'static str,
        unit: &'static str,
        limit: (&'static str, Sample),
        engine: Sample,
    ) -> Self {
        Self::new(metric, unit, Some(limit), engine, Comparison::Ratio)
    }

    /// The engine's figures less those of the limit.
    pub(super) fn difference(
        metric: &'static str,
        unit: &'static str,
        limit: (&'static str, Sample),
        engine: Sample,
    ) -> Self {
        Self::new(metric, unit, Some(limit), engine, Comparison::Difference)
    }

    /// The engine's figures, compared with nothing but the target.
    pub(super) fn alone(metric: &'static str, unit: &'static str, engine: Sample) -> Self {
        Self::new(metric, unit, None, engine, Comparison::Alone)
    }

    fn new(
        metric: &'static str,
        unit: &'static str,
        limit: Option<(&'static str, Sample)>,
        engine: Sample,
        comparison: Comparison,
    ) -> Self {
        Self { part: None, metric, unit, limit, engine, target: None, comparison }
    }

    pub(super) fn of(mut self, part: &'static str) -> Self {
        self.part = Some(part);
        self
    }

    pub(super) fn must_be(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// The figures that are held against the target, with their unit; `None` for a ratio.
    pub(super) fn compared(&self) -> (Sample, Option<&'static str>) {
        match (&self.limit, self.comparison) {
            (Some((_, limit)), Comparison::Ratio) => (self.engine.over(limit), None),
            (Some((_, limit)), Comparison::Difference) => (self.engine.less(limit), Some(self.unit)),
            _ => (self.engine.clone(), Some(self.unit)),
        }
    }

    /// The name of the comparison's line under `--json`.
    pub(super) fn comparison_metric(&self) -> String {
        match self.comparison {
            Comparison::Ratio if self.metric == "rate" || self.metric == "throughput" => "ratio".to_owned(),
            Comparison::Ratio => format!("{}_ratio", self.metric),
            Comparison::Difference => format!("{}_above", self.metric),
            Comparison::Alone => format!("{}_checked", self.metric),
        }
    }

    /// Whether the median reaches the target; `None` if nothing is asked.
    pub(super) fn verdict(&self) -> Option<bool> {
        self.target.map(|target| target.is_met_by(self.compared().0.median()))
    }
}
