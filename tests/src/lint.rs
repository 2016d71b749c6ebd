//! Stages 1 and 2: what can be said of a variant without running it.

use std::collections::HashSet;

use evenkeel_shaders::{Card, Class, Device, Form, Needs, Precision, Reflection, Variant, reflect};
use naga::{AddressSpace, Expression, Handle, Module, Scalar, ScalarKind, TypeInner, back, valid};

use crate::uniformity::divergences;

/// Storage bindings of a compute stage, lanes of a workgroup and bytes of workgroup memory in WebGPU's default limits.
const MAX_STORAGE_BINDINGS: usize = 8;
const MAX_WORKGROUP_LANES: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 16 << 10;

/// Subgroup sizes that variants are translated for.
const SUBGROUP_SIZES: [u32; 2] = [8, 32];

/// Stage 1: the variants agree with the card, stay within the default limits and translate to every shading language.
pub(crate) fn reflect_stage(card: &'static Card) -> Vec<String> {
    let mut faults = Vec::new();
    for (variant, form) in card.variants.iter().flat_map(|variant| forms(card, variant)) {
        let reflection = match reflect(card, variant, form) {
            Ok(reflection) => reflection,
            Err(error) => {
                faults.push(error.to_string());
                continue;
            }
        };
        let sizes: &[u32] = match variant.needs {
            Needs::Nothing | Needs::SubgroupBarrier { .. } | Needs::CooperativeMatrix { .. } => &[0],
            Needs::Subgroup { .. } => &SUBGROUP_SIZES,
        };
        for &subgroup in sizes {
            let result = portable(&reflection, variant, form, subgroup);
            faults.extend(result.err().map(|error| format!("{}, {form:?}: {error}", variant.name)));
        }
    }
    let everywhere = card.variants.last().is_some_and(|last| {
        let device = Device { class: Class::Software, ..Device::PORTABLE };
        (card.cases)().iter().all(|case| last.runs(&device, &case.params))
    });
    if !everywhere {
        faults.push("variants: expected the last one to run every case on every device".to_owned());
    }
    faults
}

/// All forms of a variant: half precision both as f16 and packed.
fn forms(card: &Card, variant: &'static Variant) -> Vec<(&'static Variant, Form)> {
    let half = |precision| [false, true].map(|packed| Form { precision, packed });
    let halves = card.precisions().into_iter().filter(|&precision| precision != Precision::F32).flat_map(half);
    let stored = halves.chain([Form::F32]).filter(|&form| variant.stores(form));
    stored.map(|form| (variant, form)).collect()
}

fn portable(reflection: &Reflection, variant: &Variant, form: Form, subgroup: u32) -> Result<(), String> {
    if reflection.storage.len() > MAX_STORAGE_BINDINGS {
        return Err(format!("bindings: expected at most {MAX_STORAGE_BINDINGS}, got {}", reflection.storage.len()));
    }
    let mut constants: back::PipelineConstants =
        variant.overrides.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    if reflection.module.overrides.iter().any(|(_, item)| item.name.as_deref() == Some("SUBGROUP")) {
        constants.insert("SUBGROUP".to_owned(), f64::from(subgroup));
    }
    let resolved = back::pipeline_constants::process_overrides(&reflection.module, &reflection.info, None, &constants);
    let (module, _) = resolved.map_err(|error| format!("overrides: {error}"))?;
    let lanes: u32 = module.entry_points.iter().map(|entry| entry.workgroup_size.iter().product::<u32>()).sum();
    if lanes > MAX_WORKGROUP_LANES {
        return Err(format!("workgroup: expected at most {MAX_WORKGROUP_LANES} lanes, got {lanes}"));
    }
    let shared = module.global_variables.iter().filter(|(_, var)| var.space == AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, var)| module.types[var.ty].inner.size(module.to_ctx())).sum();
    if bytes > MAX_WORKGROUP_BYTES {
        return Err(format!("workgroup memory: expected at most {MAX_WORKGROUP_BYTES} bytes, got {bytes}"));
    }
    translate(&module, variant, form)
}

/// Validates for what the variant claims to need, and writes it in the languages it claims.
fn translate(module: &Module, variant: &Variant, form: Form) -> Result<(), String> {
    let mut capabilities = match variant.needs {
        Needs::Nothing => valid::Capabilities::empty(),
        Needs::Subgroup { .. } => valid::Capabilities::SUBGROUP,
        Needs::SubgroupBarrier { .. } => valid::Capabilities::SUBGROUP | valid::Capabilities::SUBGROUP_BARRIER,
        Needs::CooperativeMatrix { .. } => valid::Capabilities::SUBGROUP | valid::Capabilities::COOPERATIVE_MATRIX,
    };
    capabilities.set(valid::Capabilities::SHADER_FLOAT16, form.native());
    // pack2x16float: everywhere but in WebGL.
    capabilities.set(valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32, form.packed);
    let info = valid::Validator::new(valid::ValidationFlags::all(), capabilities)
        .subgroup_stages(valid::ShaderStages::COMPUTE)
        .subgroup_operations(valid::SubgroupOperationSet::all())
        .validate(module)
        .map_err(|error| format!("needs {:?}: {}", variant.needs, error.as_inner()))?;
    if variant.backends.spirv {
        let options = back::spv::Options { lang_version: (1, 3), fake_missing_bindings: true, ..Default::default() };
        back::spv::write_vec(module, &info, &options, None).map_err(|error| format!("SPIR-V: {error}"))?;
    }
    if variant.backends.msl {
        // Cooperative matrices begin with version 2.3.
        let cooperative = matches!(variant.needs, Needs::CooperativeMatrix { .. });
        let lang_version = if cooperative { (2, 3) } else { (2, 1) };
        let options = back::msl::Options { lang_version, ..Default::default() };
        back::msl::write_string(module, &info, &options, &Default::default())
            .map_err(|error| format!("MSL: {error}"))?;
    }
    if variant.backends.hlsl {
        // 16-bit types begin with model 6.2.
        let shader_model = if form.native() { back::hlsl::ShaderModel::V6_2 } else { back::hlsl::ShaderModel::V6_0 };
        let options = back::hlsl::Options { shader_model, ..Default::default() };
        let (mut text, pipeline) = (String::new(), Default::default());
        back::hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(module, &info, None)
            .map_err(|error| format!("HLSL: {error}"))?;
    }
    if variant.backends.wgsl {
        back::wgsl::write_string(module, &info, back::wgsl::WriterFlags::empty())
            .map_err(|error| format!("WGSL: {error}"))?;
    }
    Ok(())
}

/// Stage 2: nothing that naga lets pass and browsers, hardware or determinism do not, and nothing unused.
pub(crate) fn lint_stage(card: &'static Card) -> Vec<String> {
    let mut faults = Vec::new();
    for (variant, form) in card.variants.iter().flat_map(|variant| forms(card, variant)) {
        // A variant that does not reflect is stage 1's to report.
        let Ok(reflection) = reflect(card, variant, form) else { continue };
        faults.extend(lint(&reflection).into_iter().map(|fault| format!("{}: {fault}", variant.name)));
    }
    faults
}

fn lint(reflection: &Reflection) -> Vec<String> {
    let module = &reflection.module;
    let mut faults: Vec<String> = divergences(module)
        .into_iter()
        .map(|divergence| {
            let line = divergence.span.location(&reflection.source).line_number;
            format!("{} at line {line}: expected uniform control flow, got a lane-dependent one", divergence.what)
        })
        .collect();
    faults.extend(unused(reflection));
    if functions(module).any(|f| f.expressions.iter().any(|(_, e)| matches!(e, Expression::ArrayLength(_)))) {
        faults.push("arrayLength: expected extents from params, got the length of the bound range".to_owned());
    }
    let float_atomic = |inner: &TypeInner| matches!(inner, TypeInner::Atomic(Scalar { kind: ScalarKind::Float, .. }));
    if module.types.iter().any(|(_, ty)| float_atomic(&ty.inner)) {
        faults.push("float atomics: expected a sum in a fixed order, got atomic<f32>".to_owned());
    }
    faults
}

fn unused(reflection: &Reflection) -> Vec<String> {
    let (module, uses) = (&reflection.module, reflection.info.get_entry_point(0));
    let mut faults = Vec::new();
    for (handle, var) in module.global_variables.iter().filter(|(_, var)| var.binding.is_some()) {
        let name = var.name.as_deref().unwrap_or_default();
        if uses[handle].is_empty() {
            faults.push(format!("binding {name}: expected a use, got none"));
            continue;
        }
        let written = uses[handle].intersects(valid::GlobalUse::WRITE | valid::GlobalUse::ATOMIC);
        if reflection.storage.iter().any(|binding| binding.name == name && binding.writable) && !written {
            faults.push(format!("binding {name}: expected stores to what is declared read_write, got none"));
        }
        if var.space == AddressSpace::Uniform {
            let used = members_used(module, handle);
            let unused = reflection.params.iter().enumerate().filter(|(i, member)| {
                // The header is there for every kernel; not all of them need the number of groups.
                !used.contains(&(*i as u32)) && member.name != "groups"
            });
            faults.extend(unused.map(|(_, member)| format!("params.{}: expected a use, got none", member.name)));
        }
    }
    faults
}

/// Indices of the uniform struct's members that some function reads.
fn members_used(module: &Module, params: Handle<naga::GlobalVariable>) -> HashSet<u32> {
    let mut used = HashSet::new();
    for function in functions(module) {
        let is_params = |handle: Handle<Expression>| matches!(function.expressions[handle], Expression::GlobalVariable(var) if var == params);
        for (_, expression) in function.expressions.iter() {
            match *expression {
                Expression::AccessIndex { base, index } if is_params(base) => {
                    used.insert(index);
                }
                // The whole struct at once: its members are then reached through the loaded value.
                Expression::Load { pointer } if is_params(pointer) => used.extend(0..64),
                _ => {}
            }
        }
    }
    used
}

fn functions(module: &Module) -> impl Iterator<Item = &naga::Function> {
    let entries = module.entry_points.iter().map(|entry| &entry.function);
    entries.chain(module.functions.iter().map(|(_, function)| function))
}
