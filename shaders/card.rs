//! The card: what a kernel's WGSL cannot say of itself.

use crate::{Case, Form, Half, Params, Precision, Values, params::Param};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit float: storage only, arithmetic is f32.
    F16,
    /// 32-bit unsigned integer: token ids, row indices.
    U32,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::U32 => 4,
        }
    }
}

/// What a kernel does with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes every element of it and reads none; with the `accumulate` param set, adds to every element.
    Write,
    /// Updates it in place.
    ReadWrite,
}

/// One storage argument. Its position in the card is its binding number in group 0; the params are the last binding.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Name of the WGSL variable.
    pub name: &'static str,
    /// Read, write or both.
    pub access: Access,
    /// Element type in full precision; the WGSL may view f32 data as `vec4<f32>`.
    pub dtype: DType,
    /// Whether it can be stored as f16 instead.
    pub half: Half,
    /// Extents, outermost first: names of [`Param::Dim`]s, numbers, fractions such as `"D/2"`, or products such as `"KV*D"`.
    pub shape: &'static [&'static str],
    /// Extents of what a run touches of it, where indices choose that: for the cost, not for the memory.
    pub touched: Option<&'static [&'static str]>,
}

/// An f32 argument that is read.
pub const fn read(name: &'static str, shape: &'static [&'static str]) -> Arg {
    Arg { name, access: Access::Read, dtype: DType::F32, shape, half: Half::Never, touched: None }
}

/// A u32 argument that is read.
pub const fn indices(name: &'static str, shape: &'static [&'static str]) -> Arg {
    Arg { name, access: Access::Read, dtype: DType::U32, shape, half: Half::Never, touched: None }
}

/// An f32 argument that is written.
pub const fn write(name: &'static str, shape: &'static [&'static str]) -> Arg {
    Arg { name, access: Access::Write, dtype: DType::F32, shape, half: Half::Never, touched: None }
}

/// An f32 argument that is updated in place.
pub const fn read_write(name: &'static str, shape: &'static [&'static str]) -> Arg {
    Arg { name, access: Access::ReadWrite, dtype: DType::F32, shape, half: Half::Never, touched: None }
}

impl Arg {
    /// The same, of which a run touches so many elements only.
    pub const fn touching(self, touched: &'static [&'static str]) -> Self {
        Self { touched: Some(touched), ..self }
    }

    /// The same, but it can be stored in half precision, together with the kernel's other operands.
    pub const fn half(self) -> Self {
        Self { half: Half::Operand, ..self }
    }

    /// The same, but it can be stored in half precision where the operands are.
    pub const fn half_result(self) -> Self {
        Self { half: Half::Result, ..self }
    }

    /// Its element type in memory.
    pub fn stored(&self, precision: Precision) -> DType {
        match (self.half, precision) {
            (Half::Operand, Precision::F16 | Precision::F16Operands) | (Half::Result, Precision::F16) => DType::F16,
            _ => self.dtype,
        }
    }

    /// Elements under these params.
    pub fn len(&self, params: &Params) -> usize {
        elements(self.shape, params)
    }
}

fn elements(shape: &[&str], params: &Params) -> usize {
    let number = |factor: &str| factor.parse().unwrap_or_else(|_| params.dim(factor));
    let extent = |factor: &str| match factor.split_once('/') {
        Some((dim, parts)) => number(dim) / number(parts),
        None => number(factor),
    };
    shape.iter().flat_map(|dim| dim.split('*')).map(extent).product()
}

/// Kinds of adapter that variants are preferred by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A CPU driver such as lavapipe or SwiftShader.
    Software,
    /// A GPU that shares the system's memory.
    Integrated,
    /// A GPU with memory of its own.
    Discrete,
}

/// What the choice of a variant may depend on; plain data, filled in by the `gpu` crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Kind of adapter.
    pub class: Class,
    /// Lanes of a subgroup, where subgroup operations exist and the size is fixed.
    pub subgroup_size: Option<u32>,
    /// Whether the lanes of a subgroup can wait for each other alone.
    pub subgroup_barrier: bool,
    /// Whether shaders have the type f16; without it, half precision is packed into words.
    pub f16: bool,
    /// Extent of the square cooperative matrices, f16 times f16 into f32, where shaders have them: 8 or 16.
    pub cooperative_matrix: Option<u32>,
}

impl Device {
    /// What every adapter can do: no optional feature.
    pub const PORTABLE: Self = Self {
        class: Class::Discrete,
        subgroup_size: None,
        subgroup_barrier: false,
        f16: false,
        cooperative_matrix: None,
    };
}

/// What a variant cannot run without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// `Limits::default()` without optional features.
    Nothing,
    /// Subgroup operations with a fixed size of these lanes at least.
    Subgroup {
        /// Fewest lanes.
        min: u32,
        /// Most lanes.
        max: u32,
    },
    /// Subgroups of exactly these lanes, and `subgroupBarrier`.
    SubgroupBarrier {
        /// Lanes.
        lanes: u32,
    },
    /// Cooperative matrices, f16 times f16 into f32, with what they bring: f16, and subgroup operations of any size.
    CooperativeMatrix {
        /// Extent of the squares: 8 or 16.
        side: u32,
    },
}

/// Shading languages that a variant must translate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backends {
    /// Vulkan.
    pub spirv: bool,
    /// Metal.
    pub msl: bool,
    /// DX12.
    pub hlsl: bool,
    /// The browser.
    pub wgsl: bool,
}

impl Backends {
    /// All four: the rule.
    pub const ALL: Self = Self { spirv: true, msl: true, hlsl: true, wgsl: true };

    /// Those that have cooperative matrices, in naga too; Metal's are 8 by 8.
    pub const fn cooperative(side: u32) -> Self {
        Self { spirv: true, msl: side == 8, hlsl: false, wgsl: false }
    }
}

/// One WGSL text of a kernel, with the constants it is compiled with.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The idea behind it: `"direct"`, `"subgroup_broadcast"`.
    pub name: &'static str,
    /// The text before `#import` lines are expanded. Its entry point has the card's name.
    pub wgsl: &'static str,
    /// Includes that take the place of one that the text imports.
    pub includes: &'static [(&'static str, &'static [&'static str])],
    /// Values that replace those of the text's and its includes' `const NAME: u32 = ...;` lines (register tile sizes).
    pub consts: &'static [(&'static str, u32)],
    /// Values of its `override`s. An override called `SUBGROUP` is set to the device's subgroup size by the executor.
    pub overrides: &'static [(&'static str, f64)],
    /// Hard requirement on the device.
    pub needs: Needs,
    /// Whether it computes in f16 itself: then it is for operands of that type alone, neither packed nor f32.
    pub native_only: bool,
    /// Classes of device where it is wanted; elsewhere it is used only if nothing else fits.
    pub preferred_on: &'static [Class],
    /// Workgroups that a grid must have for it to be wanted: with fewer, most of a GPU would have nothing to do.
    pub fewest_groups: u64,
    /// Whether it can compute these extents (alignment, say).
    pub fits: fn(&Params) -> bool,
    /// Workgroups to dispatch, as one number: the executor folds it to two dimensions and splits it.
    pub groups: fn(&Params, &Device) -> u64,
    /// Most loop iterations that one invocation goes through, all its loops summed (lavapipe 22.3 stops at 65,535).
    pub iterations: fn(&Params, &Device) -> u64,
    /// Languages it must translate to.
    pub backends: Backends,
}

impl Variant {
    /// A variant for every device and shape, that needs nothing.
    pub const fn portable(
        name: &'static str,
        wgsl: &'static str,
        groups: fn(&Params, &Device) -> u64,
        iterations: fn(&Params, &Device) -> u64,
    ) -> Self {
        Self {
            name,
            wgsl,
            includes: &[],
            consts: &[],
            overrides: &[],
            needs: Needs::Nothing,
            native_only: false,
            preferred_on: &[Class::Software, Class::Integrated, Class::Discrete],
            fewest_groups: 0,
            fits: |_| true,
            groups,
            iterations,
            backends: Backends::ALL,
        }
    }

    /// Whether its text can view arguments in this form.
    pub fn stores(&self, form: Form) -> bool {
        let known = form.precision == Precision::F32 || self.wgsl.contains("array<Stored4>");
        known && (form.native() || !self.native_only)
    }

    /// Whether `device` has what it needs.
    pub fn able(&self, device: &Device) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Subgroup { min, max } => device.subgroup_size.is_some_and(|size| (min..=max).contains(&size)),
            Needs::SubgroupBarrier { lanes } => device.subgroup_barrier && device.subgroup_size == Some(lanes),
            Needs::CooperativeMatrix { side } => device.f16 && device.cooperative_matrix == Some(side),
        }
    }

    /// Whether it is wanted for these params on `device`.
    fn preferred(&self, device: &Device, params: &Params) -> bool {
        self.preferred_on.contains(&device.class) && (self.groups)(params, device) >= self.fewest_groups
    }

    /// What its sums may be off by beyond the card's `nmse`: cooperative matrices may cut the last bit of an f32 sum off, where
    /// others round it, once per square of a product's K (Fasi, Higham, Mikaitis,
    /// Pranesh: Numerical behavior of NVIDIA tensor cores, 2021).
    pub fn cut_off(&self, params: &Params) -> f64 {
        match self.needs {
            Needs::CooperativeMatrix { side } => {
                (params.dim("K").div_ceil(side as usize) as f64 * f64::from(f32::EPSILON)).powi(2)
            }
            Needs::Nothing | Needs::Subgroup { .. } | Needs::SubgroupBarrier { .. } => 0.0,
        }
    }

    /// Whether `device` can run it on these params.
    pub fn runs(&self, device: &Device, params: &Params) -> bool {
        self.able(device) && (self.fits)(params)
    }
}

/// A kernel: its arguments, its reference, its cost, its variants.
#[derive(Debug)]
pub struct Card {
    /// File stem and entry point.
    pub name: &'static str,
    /// Storage arguments in binding order.
    pub args: &'static [Arg],
    /// Members of the params struct after the header `groups, group_offset`, in order. A kernel that can add to its
    /// `Write` argument has `Param::Dim("accumulate")` (0 or 1).
    pub params: &'static [Param],
    /// In order of preference; the last one must run everywhere.
    pub variants: &'static [Variant],
    /// The formula in f64, as plain loops: returns the new value of every `Write` and `ReadWrite` argument, as if
    /// `accumulate` were 0.
    pub reference: fn(&Params, &Values) -> Values,
    /// The CPU executor's kernel.
    pub cpu: fn(&Params, CpuArgs<'_>),
    /// Largest accepted mean of squared errors over mean of squares, per output, for f32 (about (k*eps)^2 with k from
    /// the sum's length).
    pub nmse: f64,
    /// Shapes to try, odd ones and ones of extent 1 included.
    pub cases: fn() -> Vec<Case>,
    /// Names of the kernels that compute its gradient. Theirs: arguments named like this card's inputs and outputs hold
    /// those, `d` + an output's name is the upstream gradient, `d` + an input's name is what they write (with the
    /// suffix `_partial`: to be summed over its first extent).
    pub gradients: &'static [&'static str],
    /// Floating-point operations under these params.
    pub flops: fn(&Params) -> u64,
}

impl Card {
    /// The precisions that it can be dispatched in.
    pub fn precisions(&self) -> Vec<Precision> {
        let has = |half| self.args.iter().any(|arg| arg.half == half);
        let operands = has(Half::Operand).then_some(Precision::F16);
        let result = has(Half::Result).then_some(Precision::F16Operands);
        [Some(Precision::F32), operands, result].into_iter().flatten().collect()
    }

    /// The variant that `device` runs these params with: the first that runs and is preferred on its class for so many
    /// workgroups, else the first that runs. None where a card breaks its promise that its last variant runs everywhere, or where no variant
    /// for these params has half precision.
    pub fn variant(&self, device: &Device, params: &Params, precision: Precision) -> Option<&'static Variant> {
        let form = Form::of(precision, device);
        let runs = |variant: &&Variant| variant.runs(device, params) && variant.stores(form);
        let mut running = self.variants.iter().filter(runs);
        let first = running.clone().next();
        running.find(|variant| variant.preferred(device, params)).or(first)
    }

    /// Bytes of all arguments under these params: what a perfect cache would move.
    pub fn bytes(&self, params: &Params, precision: Precision) -> u64 {
        let moved = |arg: &Arg| match arg.access {
            Access::ReadWrite => 2,
            Access::Write if params.accumulates() => 2,
            _ => 1,
        };
        let touched = |arg: &Arg| elements(arg.touched.unwrap_or(arg.shape), params) * arg.stored(precision).size();
        self.args.iter().map(|arg| (touched(arg) * moved(arg)) as u64).sum()
    }
}

/// Memory of the CPU executor that one argument is bound to.
#[derive(Debug)]
pub enum CpuSlice<'a> {
    /// Read, f32.
    F32(&'a [f32]),
    /// Written or updated, f32.
    F32Mut(&'a mut [f32]),
    /// Read, u32.
    U32(&'a [u32]),
}

/// A CPU kernel's arguments, taken out by name.
#[derive(Debug, Default)]
pub struct CpuArgs<'a>(Vec<(&'static str, CpuSlice<'a>)>);

impl<'a> CpuArgs<'a> {
    /// Binds `name`.
    pub fn bind(&mut self, name: &'static str, slice: CpuSlice<'a>) {
        self.0.push((name, slice));
    }

    fn take(&mut self, name: &str) -> Option<CpuSlice<'a>> {
        let position = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(position).1)
    }

    /// The f32 argument `name`, which the card reads.
    ///
    /// # Panics
    /// As do its neighbours, where the card has no such argument: a faulty card, which the harness finds.
    pub fn f32(&mut self, name: &str) -> &'a [f32] {
        match self.take(name) {
            Some(CpuSlice::F32(slice)) => slice,
            other => panic!("CPU kernel: expected the f32 input {name}, got {other:?}"),
        }
    }

    /// The f32 argument `name`, which the card writes or updates.
    pub fn f32_mut(&mut self, name: &str) -> &'a mut [f32] {
        match self.take(name) {
            Some(CpuSlice::F32Mut(slice)) => slice,
            other => panic!("CPU kernel: expected the f32 output {name}, got {other:?}"),
        }
    }

    /// The u32 argument `name`, which the card reads.
    pub fn u32(&mut self, name: &str) -> &'a [u32] {
        match self.take(name) {
            Some(CpuSlice::U32(slice)) => slice,
            other => panic!("CPU kernel: expected the u32 input {name}, got {other:?}"),
        }
    }
}
