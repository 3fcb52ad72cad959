//! p-values of several comparisons.

/// Holm's step-down adjustment (Holm 1979) over a family of comparisons: where each p ≤ α after it counts as a finding, the
/// chance of any false one is at most α, whatever the comparisons have in common. Which comparisons make up the family is to
/// be said beside the p-values. Comparisons without a p are no members.
///
/// ```
/// use forgetting_eval::holm;
///
/// assert_eq!(holm(&[Some(0.01), None, Some(0.04)]), [Some(0.02), None, Some(0.04)]);
/// ```
pub fn holm(ps: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> = ps.iter().enumerate().filter_map(|(i, p)| Some((i, (*p)?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut out = vec![None; ps.len()];
    let mut highest = 0f64;
    let count = order.len();
    for (rank, (index, p)) in order.into_iter().enumerate() {
        highest = highest.max((p * (count - rank) as f64).min(1.0));
        out[index] = Some(highest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let adjusted = holm(&[Some(0.01), None, Some(0.04), Some(0.03)]);
        let expected = [Some(0.03), None, Some(0.06), Some(0.06)];
        for (a, b) in adjusted.iter().zip(expected) {
            assert!(match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-15,
                (None, None) => true,
                _ => false,
            });
        }
    }
}
