//! Sums of the CPU kernels, in a fixed order: `LANES` running sums, which the compiler keeps in vector registers, then a
//! tree over them.

const LANES: usize = 16;

/// Sum of `term(i)` over `0..len`. Where the term indexes slices, their bounds checks keep the loop scalar.
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
    tree(lanes)
}

/// Sum of `term(x)` over a slice's elements.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(sum, x)| *sum += term(*x));
    }
    lanes.iter_mut().zip(rest).for_each(|(sum, x)| *sum += term(*x));
    tree(lanes)
}

/// Sum of the products of two slices' elements.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let len = a.len().min(b.len());
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a[..len].as_chunks::<LANES>(), b[..len].as_chunks::<LANES>());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter_mut().zip(a_rest.iter().zip(b_rest)).for_each(|(sum, (a, b))| *sum += a * b);
    tree(lanes)
}

/// Sums of the products of one slice's elements with those of each of several; each as [`dot`] has it.
#[inline(always)]
pub(crate) fn dots<const N: usize>(a: &[f32], b: [&[f32]; N]) -> [f32; N] {
    let mut lanes = [[0.0; LANES]; N];
    let (blocks, rest) = a.as_chunks::<LANES>();
    let others = b.map(|b| b[..a.len()].as_chunks::<LANES>());
    for (i, a) in blocks.iter().enumerate() {
        for (lanes, (b, _)) in lanes.iter_mut().zip(&others) {
            let b = &b[i];
            for lane in 0..LANES {
                lanes[lane] += a[lane] * b[lane];
            }
        }
    }
    for (lanes, (_, b)) in lanes.iter_mut().zip(&others) {
        lanes.iter_mut().zip(rest.iter().zip(*b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    lanes.map(tree)
}

#[inline(always)]
fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
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
