//! What naga reads from a variant's WGSL, so that no binding list is ever written twice.

use naga::{AddressSpace, ScalarKind, StorageAccess, TypeInner, front::wgsl, valid};

use crate::{Access, Arg, Card, DType, Form, Variant, expand, source::SourceError};

/// The two members that begin every kernel's params struct.
pub(crate) const GRID_HEADER: [&str; 2] = ["groups", "group_offset"];

/// How the WGSL views a storage argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its scalars.
    pub dtype: DType,
    /// Components of a vector view, 1 for scalars.
    pub width: u32,
}

/// One storage binding of group 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Variable name.
    pub name: String,
    /// `read` or `read_write`.
    pub writable: bool,
    /// Element of the runtime-sized array.
    pub element: Element,
}

/// One member of the params struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Bytes from the struct's start.
    pub offset: u32,
    /// u32 or f32.
    pub dtype: DType,
}

/// A checked variant: its module and everything the executors need to know of it.
#[derive(Debug)]
pub struct Reflection {
    /// Expanded WGSL.
    pub source: String,
    /// As parsed.
    pub module: naga::Module,
    /// As validated.
    pub info: valid::ModuleInfo,
    /// Storage bindings, by binding number from 0; the params follow them.
    pub storage: Vec<Binding>,
    /// Members of the params struct.
    pub params: Vec<Member>,
    /// Bytes of the params struct.
    pub params_size: u32,
    /// Lanes per workgroup; where an override sizes it, by the text's default.
    pub workgroup_size: [u32; 3],
}

/// Why a variant is not what its card says.
#[derive(Debug, thiserror::Error)]
pub enum ReflectError {
    /// The text does not expand.
    #[error("{kernel}: {cause}")]
    Source {
        /// Kernel.
        kernel: &'static str,
        /// Reason.
        cause: SourceError,
    },
    /// Not WGSL.
    #[error("{kernel} ({variant}): {message}")]
    Parse {
        /// Kernel.
        kernel: &'static str,
        /// Variant.
        variant: &'static str,
        /// naga's diagnostics.
        message: String,
    },
    /// Valid WGSL that contradicts the card.
    #[error("{kernel} ({variant}): {what}: expected {expected}, got {got}")]
    Mismatch {
        /// Kernel.
        kernel: &'static str,
        /// Variant.
        variant: &'static str,
        /// The fact.
        what: String,
        /// By the card.
        expected: String,
        /// By the WGSL.
        got: String,
    },
}

/// Expands, parses and validates a variant, and checks it against its card: entry point, bindings, access, element
/// types in this form, and the members of the params struct.
pub fn reflect(card: &'static Card, variant: &'static Variant, form: Form) -> Result<Reflection, ReflectError> {
    let source = expand(variant, form).map_err(|cause| ReflectError::Source { kernel: card.name, cause })?;
    let parse = |message| ReflectError::Parse { kernel: card.name, variant: variant.name, message };
    let module = wgsl::parse_str(&source).map_err(|error| parse(error.emit_to_string(&source)))?;
    let info = valid::Validator::new(valid::ValidationFlags::all(), valid::Capabilities::all())
        .validate(&module)
        .map_err(|error| parse(error.emit_to_string(&source)))?;
    let mut reflection = Reflection {
        source,
        storage: Vec::new(),
        params: Vec::new(),
        params_size: 0,
        workgroup_size: [0; 3],
        info,
        module,
    };
    reflection.read_module(card, variant)?;
    reflection.check(card, variant, form)?;
    Ok(reflection)
}

impl Reflection {
    fn read_module(&mut self, card: &'static Card, variant: &'static Variant) -> Result<(), ReflectError> {
        let mismatch = |what: &str, expected: &str, got: String| ReflectError::Mismatch {
            kernel: card.name,
            variant: variant.name,
            what: what.to_owned(),
            expected: expected.to_owned(),
            got,
        };
        let [entry] = self.module.entry_points.as_slice() else {
            return Err(mismatch("entry points", card.name, format!("{} of them", self.module.entry_points.len())));
        };
        if entry.name != card.name {
            return Err(mismatch("entry point", card.name, entry.name.clone()));
        }
        self.workgroup_size = entry.workgroup_size;
        let mut bound: Vec<_> =
            self.module.global_variables.iter().filter_map(|(_, var)| var.binding.map(|at| (at, var))).collect();
        bound.sort_by_key(|(at, _)| (at.group, at.binding));
        for (i, (at, var)) in bound.iter().enumerate() {
            let name = var.name.clone().unwrap_or_default();
            if (at.group, at.binding) != (0, i as u32) {
                return Err(mismatch(
                    "bindings",
                    "group 0, numbered from 0 without gaps",
                    format!("{name} at {}.{}", at.group, at.binding),
                ));
            }
            let inner = &self.module.types[var.ty].inner;
            match (var.space, inner) {
                (AddressSpace::Storage { access }, TypeInner::Array { base, .. }) => {
                    let element = element(&self.module.types[*base].inner)
                        .ok_or_else(|| mismatch("element", "f32, f16, u32 or vectors of them", name.clone()))?;
                    self.storage.push(Binding { name, writable: access.contains(StorageAccess::STORE), element });
                }
                (AddressSpace::Uniform, TypeInner::Struct { members, span }) => {
                    self.params_size = *span;
                    for member in members {
                        let name = member.name.clone().unwrap_or_default();
                        let element = element(&self.module.types[member.ty].inner)
                            .filter(|element| element.width == 1)
                            .ok_or_else(|| mismatch("params", "u32 and f32 members", name.clone()))?;
                        self.params.push(Member { name, offset: member.offset, dtype: element.dtype });
                    }
                }
                _ => return Err(mismatch("bindings", "storage arrays, then the uniform params", name)),
            }
        }
        Ok(())
    }

    fn check(&self, card: &'static Card, variant: &'static Variant, form: Form) -> Result<(), ReflectError> {
        let same = |what: &str, expected: Vec<String>, got: Vec<String>| {
            if expected == got {
                return Ok(());
            }
            Err(ReflectError::Mismatch {
                kernel: card.name,
                variant: variant.name,
                what: what.to_owned(),
                expected: expected.join(", "),
                got: got.join(", "),
            })
        };
        let in_memory = |arg: &Arg| match arg.stored(form.precision) {
            DType::F16 if form.packed => DType::U32,
            dtype => dtype,
        };
        let binding = |name: &str, writable: bool, dtype: DType| {
            format!("{name}: {dtype:?} {}", if writable { "read_write" } else { "read" })
        };
        same(
            "bindings",
            card.args.iter().map(|arg| binding(arg.name, arg.access != Access::Read, in_memory(arg))).collect(),
            self.storage.iter().map(|b| binding(&b.name, b.writable, b.element.dtype)).collect(),
        )?;
        let member = |name: &str, dtype: DType| format!("{name}: {dtype:?}");
        let header = GRID_HEADER.map(|name| member(name, DType::U32));
        let declared = card.params.iter().map(|param| match param {
            crate::Param::Dim(name) => member(name, DType::U32),
            crate::Param::Scalar(name) => member(name, DType::F32),
        });
        same(
            "params",
            header.into_iter().chain(declared).collect(),
            self.params.iter().map(|m| member(&m.name, m.dtype)).collect(),
        )
    }
}

fn element(inner: &TypeInner) -> Option<Element> {
    let (scalar, width) = match *inner {
        TypeInner::Scalar(scalar) => (scalar, 1),
        TypeInner::Vector { size, scalar } => (scalar, size as u32),
        _ => return None,
    };
    let dtype = match (scalar.kind, scalar.width) {
        (ScalarKind::Float, 4) => DType::F32,
        (ScalarKind::Float, 2) => DType::F16,
        (ScalarKind::Uint, 4) => DType::U32,
        _ => return None,
    };
    Some(Element { dtype, width })
}
