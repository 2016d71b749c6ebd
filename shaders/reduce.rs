//! Sums of the CPU kernels, in a fixed order: `LANES` running sums, which the compiler keeps in vector registers, then a
//! tree over them.

const LANES: usize = 16;

/// Sum of `term(i)` over `0..len`.
#[inline(always)]
pub(crate) fn sum(len: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for i in whole..len {
        lanes[i - whole] += term(i);
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

/// Sum of the products of two slices' elements.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    sum(len, |i| a[i] * b[i])
}

/// The largest element; the lowest number for none.
#[inline]
pub(crate) fn max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::MIN; LANES];
    for chunk in values.chunks(LANES) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &value)| *lane = larger(*lane, value));
    }
    lanes.into_iter().fold(f32::MIN, larger)
}
