//! Cooperative matrices are used where they have computed rightly. Drivers report them that get them wrong or are slow at
//! pretending (ggml's pull request 10597), so before the first schedule that wants them each product runs in both ways on
//! random numbers: theirs, and the plain kernel of the same card.

use evenkeel_shaders::{
    Access, Card, DType, Form, Needs, Params, Precision, Values, Variant, matmul_nn, matmul_nt, matmul_tn,
    trial::{Random, as_stored, numbers, words},
};

use crate::{Gpu, GpuError, Kernel};

static PRODUCTS: [&Card; 3] = [&matmul_nt::CARD, &matmul_nn::CARD, &matmul_tn::CARD];

/// M, N and K: edges beside the tiles, several of them each way, a sum of many tiles. Each a second time added to what is
/// there.
const SHAPES: [[usize; 3]; 3] = [[65, 36, 20], [131, 68, 100], [7, 100, 516]];

/// So many workgroups that several share a core: what one leaves in workgroup memory must not reach another.
const MANY_GROUPS: [usize; 3] = [1024, 768, 256];

/// What the last bit of an f32 sum is worth, which hardware may cut off rather than round; and half of an f16's.
const CUT: f64 = f32::EPSILON as f64;
const HALF_ROUNDING: f64 = 1.0 / 2048.0;
const LEAST_HALF: f64 = 1.0 / (1 << 24) as f64;

/// A kernel that takes the plain one's place, if it passes.
type Tested = (&'static Card, &'static Variant);

impl Gpu {
    /// Tests the device's cooperative matrices, unless that is done, and returns their extent, or why they are not used.
    /// None where there are none to use.
    pub async fn test_cooperative_matrices(&self) -> Option<Result<u32, String>> {
        let side = self.summary.device.cooperative_matrix?;
        if self.cooperative.get().is_none() {
            let wanted = |variant: &&Variant| variant.needs == Needs::CooperativeMatrix { side };
            let tested = |&card: &&'static Card| Some((card, card.variants.iter().find(wanted)?));
            let tested: Vec<Tested> = PRODUCTS.iter().filter_map(tested).collect();
            self.settle(self.judge(&tested).await);
        }
        let verdict = self.cooperative.get().cloned().unwrap_or(Ok(()));
        Some(verdict.map(|()| side))
    }

    /// Keeps the verdict. Another one that came first stays.
    fn settle(&self, verdict: Result<(), String>) {
        if let Err(reason) = &verdict {
            log::warn!("{}: cooperative matrices are not used: {reason}", self.summary);
        }
        let _ = self.cooperative.set(verdict);
    }

    async fn judge(&self, tested: &[Tested]) -> Result<(), String> {
        let mut large = Vec::new();
        for &(card, variant) in tested {
            for precision in card.precisions() {
                let form = Form::of(precision, &self.profile());
                if precision == Precision::F32 || !variant.stores(form) {
                    continue;
                }
                let kernel = Kernel { card, variant, form };
                for (stream, shape) in (0..).zip(SHAPES.into_iter().flat_map(|shape| [shape, shape])) {
                    self.expect_agreement(kernel, &params(card, shape, stream % 2), stream as u64).await?;
                }
                large.push((kernel, params(card, MANY_GROUPS, 0)));
            }
        }
        // Last, for they take longest.
        for (kernel, params) in large {
            self.expect_agreement(kernel, &params, 0).await?;
        }
        Ok(())
    }

    async fn expect_agreement(&self, kernel: Kernel, params: &Params, seed: u64) -> Result<(), String> {
        let Kernel { card, variant, form } = kernel;
        let what = |why| format!("{} ({}) in {}, {params}: {why}", card.name, variant.name, form.precision);
        let found = self.compare(kernel, params, &mut Random::new(seed)).await;
        found.map_err(|error| error.to_string()).flatten().map_err(what)
    }

    /// The kernel's result beside that of the card's last variant, which is for any shape, on the same numbers in f32.
    async fn compare(
        &self,
        kernel: Kernel,
        params: &Params,
        random: &mut Random,
    ) -> Result<Result<(), String>, GpuError> {
        let Kernel { card, form, .. } = kernel;
        let Some(plain) = card.variants.last() else { return Ok(Ok(())) };
        let (mut values, mut magnitudes) = (Values::new(), Values::new());
        let (mut arguments, mut plainly) = (Vec::new(), Vec::new());
        for arg in card.args {
            let fresh = arg.access == Access::Write && !params.accumulates();
            let mut number = || if fresh { f64::NAN } else { as_stored(random.normal(), DType::F16) };
            let drawn: Vec<f64> = (0..arg.len(params)).map(|_| number()).collect();
            arguments.push(bytemuck::cast_slice(&words(&drawn, arg.stored(form.precision))).to_vec());
            plainly.push(bytemuck::cast_slice(&words(&drawn, DType::F32)).to_vec());
            magnitudes.insert(arg.name, drawn.iter().map(|number| number.abs()).collect());
            values.insert(arg.name, drawn);
        }
        self.dispatch_once(kernel, params, &mut arguments).await?;
        self.dispatch_once(Kernel::f32(card, plain), params, &mut plainly).await?;
        let sums = absolute_sums(card, params, &magnitudes);
        for ((arg, got), expected) in card.args.iter().zip(&arguments).zip(&plainly) {
            let Some(sums) = sums.get(arg.name) else { continue };
            let dtype = arg.stored(form.precision);
            let got = numbers(&bytemuck::pod_collect_to_vec(got), dtype);
            let expected = numbers(&bytemuck::pod_collect_to_vec(expected), DType::F32);
            let before = if params.accumulates() { magnitudes.get(arg.name) } else { None };
            let magnitude = |i: usize| sums[i] + before.map_or(0.0, |before| before[i]);
            let tolerances: Vec<f64> =
                (0..sums.len()).map(|i| tolerance(params.dim("K"), magnitude(i), expected[i], dtype)).collect();
            if let Err(why) = near(&got, &expected, &tolerances) {
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    }
}

/// Sums of absolute products, for every element. Of many long ones what none exceeds: absolute values of two normal numbers
/// multiply to 0.64 on average, 0.77 of standard deviation.
fn absolute_sums(card: &Card, params: &Params, magnitudes: &Values) -> Values {
    let terms = params.dim("K");
    if params.dim("M") * params.dim("N") * terms < 1 << 24 {
        return (card.reference)(params, magnitudes);
    }
    let written = card.args.iter().filter(|arg| arg.access == Access::Write);
    written.map(|arg| (arg.name, vec![terms as f64; arg.len(params)])).collect()
}

/// Rows are whole vec4s, as these kernels want them: x's have padding where M or K is odd.
fn params(card: &Card, [m, n, k]: [usize; 3], accumulate: usize) -> Params {
    let row = if card.name == matmul_tn::CARD.name { m } else { k };
    let strides = [("x_stride", row.next_multiple_of(4)), ("y_stride", n.next_multiple_of(4) + 4)];
    let known = |name: &str| card.params.iter().any(|param| param.name() == name);
    let dims = [("M", m), ("N", n), ("K", k), ("accumulate", accumulate)].into_iter().chain(strides);
    dims.filter(|(name, _)| known(name)).fold(Params::new(), |params, (name, value)| params.with_dim(name, value))
}

/// How far two sums of the same K products may be apart: a product of two f16 is exact in f32; each addition, and the one
/// to what was there, may cut off a bit of a sum that is at most `magnitude`, the sum of absolute products. In half
/// precision the result is rounded to nearest.
fn tolerance(terms: usize, magnitude: f64, expected: f64, dtype: DType) -> f64 {
    let sums = 2.0 * (terms + 1) as f64 * CUT * magnitude;
    if dtype == DType::F16 { sums + (expected.abs() + sums) * HALF_ROUNDING + LEAST_HALF } else { sums }
}

/// Whether every number is as near as it has to be; otherwise names the one that is furthest off.
fn near(got: &[f64], expected: &[f64], tolerances: &[f64]) -> Result<(), String> {
    let mut worst = (0.0, 0);
    for (i, ((got, expected), tolerance)) in got.iter().zip(expected).zip(tolerances).enumerate() {
        let difference = (got - expected).abs();
        let excess = if difference.is_nan() { f64::INFINITY } else { difference - tolerance };
        if excess > worst.0 {
            worst = (excess, i);
        }
    }
    let (excess, i) = worst;
    if excess == 0.0 {
        return Ok(());
    }
    let apart = (got[i] - expected[i]).abs();
    Err(format!(
        "element {i}: expected {} within {:.1e}, got {} (the largest difference, {apart:.1e})",
        expected[i], tolerances[i], got[i]
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Stands in for a cooperative variant: the tiles of the same card, with one change in the text.
    fn stand_in(card: &'static Card, right: &str, wrong: &str) -> Tested {
        let tile = card.variants.iter().find(|variant| variant.name == "tile_64").unwrap();
        assert!(tile.wgsl.contains(right), "{right}");
        let wgsl = Box::leak(tile.wgsl.replace(right, wrong).into_boxed_str());
        (card, Box::leak(Box::new(Variant { wgsl, ..*tile })))
    }

    fn opened() -> Gpu {
        let mut gpu = pollster::block_on(async { crate::select(None).await.unwrap().open().await.unwrap() });
        gpu.summary.device.cooperative_matrix = Some(16);
        gpu
    }

    fn settled(gpu: &Gpu, tested: &[Tested]) -> Option<u32> {
        let verdict = pollster::block_on(gpu.judge(tested));
        gpu.settle(verdict);
        gpu.profile().cooperative_matrix
    }

    #[test]
    fn kernels_that_compute_rightly_are_kept() {
        let gpu = opened();
        let right: Vec<Tested> = PRODUCTS.iter().map(|card| stand_in(card, "", "")).collect();
        assert_eq!(settled(&gpu, &right), Some(16), "{:?}", gpu.cooperative);
        assert_eq!(pollster::block_on(gpu.test_cooperative_matrices()), Some(Ok(16)));
    }

    #[test]
    fn kernels_that_compute_wrongly_are_refused_and_what_is_chosen_goes_without() {
        let device = evenkeel_shaders::Device { class: evenkeel_shaders::Class::Discrete, ..opened().profile() };
        for (card, right, wrong, part) in [
            // A wrong step, an element of a row that nobody writes, rows that are swapped, steps beyond the last.
            (&matmul_nt::CARD, "widen(w[at.y])", "widen(w[at.x])", "matmul_nt"),
            (&matmul_nt::CARD, "    if m >=", "    if m == 3u { return; }\n    if m >=", "got NaN"),
            (&matmul_nn::CARD, "return transpose(", "return (", "matmul_nn"),
            (&matmul_nt::CARD, "    if m >=", "    if m == 900u { return; }\n    if m >=", "M=1024"), // beyond few workgroups
            (&matmul_tn::CARD, "sum;", "2.0 * sum;", "largest difference"),
            (&matmul_tn::CARD, "value += y[at]", "value += 0.0", "accumulate=1"),
            (&matmul_tn::CARD, "fn x_block", "not WGSL", "expected"),
        ] {
            let gpu = opened();
            let tested = [stand_in(&matmul_nt::CARD, "", ""), stand_in(card, right, wrong)];
            assert_eq!(settled(&gpu, &tested), None, "{wrong}");
            let reason = pollster::block_on(gpu.test_cooperative_matrices()).unwrap().unwrap_err();
            assert!(reason.contains(part), "{reason}");
            let params = params(card, [4096, 1024, 1024], 0);
            let chosen = |cooperative_matrix| {
                let device = evenkeel_shaders::Device { cooperative_matrix, f16: true, ..device };
                card.variant(&device, &params, Precision::F16).unwrap().name
            };
            assert_eq!(chosen(Some(16)), "cooperative_16");
            assert_eq!(chosen(gpu.profile().cooperative_matrix), "tile_128");
        }
    }

    #[test]
    fn without_them_there_is_nothing_to_test() {
        let gpu = opened().without_cooperative_matrices();
        assert_eq!(pollster::block_on(gpu.test_cooperative_matrices()), None);
        assert_eq!(gpu.profile().cooperative_matrix, None);
    }
}
