//! Inner products of parameter vectors, in f64.

/// f32 or f64.
pub trait Scalar: Copy + Into<f64> {}

impl Scalar for f32 {}
impl Scalar for f64 {}

/// Values summed apart before they are added: rounding grows with their number, not with the vector's length.
const RUN: usize = 4096;

fn sum(runs: impl Iterator<Item = f64>) -> f64 {
    runs.sum()
}

/// ⟨a, b⟩
pub(super) fn dot<T: Scalar>(a: &[T], b: &[T]) -> f64 {
    let run = |(a, b): (&[T], &[T])| a.iter().zip(b).map(|(a, b)| (*a).into() * (*b).into()).sum::<f64>();
    sum(a.chunks(RUN).zip(b.chunks(RUN)).map(run))
}

/// ⟨a, c − b⟩
pub(super) fn dot_difference<T: Scalar>(a: &[T], b: &[T], c: &[T]) -> f64 {
    let run = |((a, b), c): ((&[T], &[T]), &[T])| {
        let terms = a.iter().zip(b).zip(c).map(|((a, b), c)| (*a).into() * ((*c).into() - (*b).into()));
        terms.sum::<f64>()
    };
    sum(a.chunks(RUN).zip(b.chunks(RUN)).zip(c.chunks(RUN)).map(run))
}

/// ‖b − a‖²
pub(super) fn square_distance<T: Scalar>(a: &[T], b: &[T]) -> f64 {
    let run = |(a, b): (&[T], &[T])| a.iter().zip(b).map(|(a, b)| ((*b).into() - (*a).into()).powi(2)).sum::<f64>();
    sum(a.chunks(RUN).zip(b.chunks(RUN)).map(run))
}
