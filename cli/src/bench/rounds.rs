//! Interleaved rounds and what is said about them.
//!
//! Invariant: in every round each contender runs once, in the same order, so that what disturbs the machine for longer
//! than a round disturbs all of them; the first round warms up and is not counted.

use anyhow::Result;
use indicatif::ProgressBar;

/// One figure a round, in order of the rounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample(Vec<f64>);

impl Sample {
    pub(super) fn new(values: Vec<f64>) -> Self {
        Self(values)
    }

    /// The middle value, or the mean of the two middle ones; 0 without values.
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        }
    }

    pub(super) fn min(&self) -> f64 {
        self.0.iter().copied().min_by(f64::total_cmp).unwrap_or_default()
    }

    pub(super) fn max(&self) -> f64 {
        self.0.iter().copied().max_by(f64::total_cmp).unwrap_or_default()
    }

    /// Round by round: this over `other`.
    pub(super) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(this, other)| this / other).collect())
    }

    /// Round by round: this less `other`.
    pub(super) fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(this, other)| this - other).collect())
    }
}

/// Somebody who does the work once and says how well.
pub(super) type Contender<'a, S, F> = &'a mut dyn FnMut(&mut S) -> Result<F>;

/// Lets the contenders take turns for `rounds` rounds after one to warm up. Answers one list of figures a contender.
///
/// # Errors
///
/// The first that a contender returns.
pub(super) fn interleaved<S, F>(
    progress: &ProgressBar,
    rounds: u64,
    state: &mut S,
    contenders: &mut [Contender<'_, S, F>],
) -> Result<Vec<Vec<F>>> {
    let mut figures: Vec<Vec<F>> = contenders.iter().map(|_| Vec::new()).collect();
    progress.set_length((rounds + 1) * contenders.len() as u64);
    for round in 0..=rounds {
        progress.set_message(if round == 0 { "warming up".to_owned() } else { format!("round {round}") });
        for (contender, figures) in contenders.iter_mut().zip(&mut figures) {
            let figure = contender(state)?;
            if round > 0 {
                figures.push(figure);
            }
            progress.inc(1);
        }
    }
    Ok(figures)
}

/// Of times in ascending order, the one that `part` of them, in thousandths, do not exceed; 0 without times.
pub(super) fn quantile(sorted: &[u64], part: usize) -> u64 {
    let at = (sorted.len() * part).div_ceil(1000).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_lies_between_the_middle_ones() {
        assert_eq!(Sample::new(vec![4.0, 1.0, 3.0, 2.0]).median(), 2.5);
        assert_eq!(Sample::new(vec![9.0, 1.0, 3.0]).median(), 3.0);
        assert_eq!(Sample::new(vec![]).median(), 0.0);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let engine = Sample::new(vec![1.0, 6.0]);
        let ratio = engine.over(&Sample::new(vec![2.0, 3.0]));
        assert_eq!((ratio.min(), ratio.max()), (0.5, 2.0));
        assert_eq!(engine.less(&Sample::new(vec![2.0, 3.0])), Sample::new(vec![-1.0, 3.0]));
    }

    #[test]
    fn contenders_take_turns_and_the_first_round_does_not_count() {
        let mut order = String::new();
        let mut first = |order: &mut String| {
            order.push('a');
            Ok(order.len())
        };
        let mut second = |order: &mut String| {
            order.push('b');
            Ok(order.len())
        };
        let figures =
            interleaved(&ProgressBar::hidden(), 2, &mut order, &mut [&mut first, &mut second]).unwrap();
        assert_eq!(order, "ababab");
        assert_eq!(figures, [[3, 5], [4, 6]]);
    }

    #[test]
    fn a_quantile_is_the_time_that_a_part_of_the_samples_does_not_exceed() {
        let times: Vec<u64> = (1..=1000).collect();
        assert_eq!((quantile(&times, 500), quantile(&times, 999), quantile(&times, 1000)), (500, 999, 1000));
        assert_eq!(quantile(&[7], 990), 7);
        assert_eq!(quantile(&[], 990), 0);
    }
}
