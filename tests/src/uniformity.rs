//! Which values and which control flow are the same in all lanes of a workgroup or subgroup.
//!
//! A barrier must be reached by a whole workgroup and a subgroup operation by a whole subgroup; naga accepts both in
//! divergent flow, browsers and hardware do not. The analysis errs on the safe side: variables are flow-insensitive
//! (one divergent store makes every load divergent), memory that the dispatch writes is divergent, and so is the rest
//! of a loop after a divergent `break` or `continue`, and the rest of a function after a divergent `return`.

use std::collections::HashMap;

use naga::{
    AddressSpace, Binding, Block, BuiltIn, Expression, Function, GatherMode, Handle, LocalVariable, Module, Span,
    Statement, StorageAccess, SubgroupOperation,
};

/// The lanes that share a value, from most to fewest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spread {
    /// All lanes of the workgroup.
    #[default]
    Workgroup,
    /// All lanes of the subgroup.
    Subgroup,
    /// None.
    Lane,
}

/// A synchronising statement that some lanes may not reach.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Divergence {
    /// What stands there.
    pub what: &'static str,
    /// Where in the expanded text.
    pub span: Span,
}

/// The barriers and subgroup operations of the module's first entry point that divergent flow leads to.
pub(crate) fn divergences(module: &Module) -> Vec<Divergence> {
    let Some(entry) = module.entry_points.first() else { return Vec::new() };
    let arguments = entry.function.arguments.iter().map(|argument| match argument.binding {
        Some(Binding::BuiltIn(
            BuiltIn::WorkGroupId
            | BuiltIn::NumWorkGroups
            | BuiltIn::WorkGroupSize
            | BuiltIn::NumSubgroups
            | BuiltIn::SubgroupSize,
        )) => Spread::Workgroup,
        Some(Binding::BuiltIn(BuiltIn::SubgroupId)) => Spread::Subgroup,
        _ => Spread::Lane,
    });
    let mut analysis = Analysis { module, found: Vec::new() };
    analysis.function(&entry.function, arguments.collect(), Spread::Workgroup);
    analysis.found
}

struct Analysis<'a> {
    module: &'a Module,
    found: Vec<Divergence>,
}

/// One call of a function: what is known of its values and of the flow at the statement being walked.
struct Frame<'a> {
    function: &'a Function,
    arguments: Vec<Spread>,
    /// Of every expression of the function, by index, as known when the walk began.
    spreads: Vec<Spread>,
    locals: HashMap<Handle<LocalVariable>, Spread>,
    /// Results of statements: calls, atomics, subgroup operations.
    results: HashMap<Handle<Expression>, Spread>,
    /// Flow of the function as a whole: raised by a divergent return.
    function_flow: Spread,
    /// Flow of the enclosing loop: raised by a divergent break or continue.
    loop_flow: Spread,
    returned: Spread,
}

impl<'a> Analysis<'a> {
    /// Walks until nothing changes; returns the spread of the result.
    fn function(&mut self, function: &'a Function, arguments: Vec<Spread>, flow: Spread) -> Spread {
        let mut frame = Frame {
            function,
            arguments,
            spreads: Vec::new(),
            locals: HashMap::new(),
            results: HashMap::new(),
            function_flow: flow,
            loop_flow: flow,
            returned: Spread::Workgroup,
        };
        loop {
            let known = (frame.locals.clone(), frame.results.clone());
            frame.function_flow = flow;
            frame.loop_flow = flow;
            frame.survey(self.module);
            let found = self.found.len();
            self.block(&mut frame, &function.body, flow);
            if known == (frame.locals.clone(), frame.results.clone()) {
                return frame.returned;
            }
            self.found.truncate(found);
        }
    }

    /// `branch` is the spread of the conditions that lead to this block, inside its function.
    fn block(&mut self, frame: &mut Frame<'a>, block: &'a Block, branch: Spread) {
        for (statement, span) in block.span_iter() {
            let flow = branch.max(frame.loop_flow).max(frame.function_flow);
            self.statement(frame, statement, *span, flow, branch);
        }
    }

    fn statement(&mut self, frame: &mut Frame<'a>, statement: &'a Statement, span: Span, flow: Spread, branch: Spread) {
        match statement {
            Statement::Block(block) => self.block(frame, block, branch),
            Statement::If { condition, accept, reject } => {
                let branch = branch.max(frame.spread(*condition));
                self.block(frame, accept, branch);
                self.block(frame, reject, branch);
            }
            Statement::Switch { selector, cases } => {
                // A `break` in a switch leaves the switch only; taking it for the loop's is the safe side.
                let branch = branch.max(frame.spread(*selector));
                cases.iter().for_each(|case| self.block(frame, &case.body, branch));
            }
            Statement::Loop { body, continuing, break_if } => {
                let outer = frame.loop_flow;
                frame.loop_flow = flow;
                loop {
                    let (before, found) = (frame.loop_flow.max(frame.function_flow), self.found.len());
                    self.block(frame, body, branch);
                    self.block(frame, continuing, branch);
                    if let Some(condition) = break_if {
                        frame.loop_flow = frame.loop_flow.max(frame.spread(*condition));
                    }
                    if before == frame.loop_flow.max(frame.function_flow) {
                        break;
                    }
                    self.found.truncate(found); // the next walk finds them again
                }
                frame.loop_flow = outer;
            }
            Statement::Break | Statement::Continue => frame.loop_flow = frame.loop_flow.max(flow),
            Statement::Return { value } => {
                let value = value.map_or(Spread::Workgroup, |value| frame.spread(value));
                frame.returned = frame.returned.max(value).max(flow);
                frame.function_flow = frame.function_flow.max(flow);
            }
            Statement::Store { pointer, value } => {
                let value = frame.spread(*value).max(frame.address(*pointer)).max(flow);
                frame.raise(*pointer, value);
            }
            Statement::Call { function, arguments, result } => {
                let spreads = arguments.iter().map(|&argument| frame.spread(argument)).collect();
                let returned = self.function(&self.module.functions[*function], spreads, flow);
                // What a callee stores through a pointer is not followed.
                arguments.iter().for_each(|&argument| frame.raise(argument, Spread::Lane));
                if let Some(result) = result {
                    frame.results.insert(*result, returned);
                }
            }
            Statement::Atomic { result: Some(result), .. } => {
                frame.results.insert(*result, Spread::Lane);
            }
            _ => self.synchronisation(frame, statement, span, flow),
        }
    }

    fn synchronisation(&mut self, frame: &mut Frame<'a>, statement: &Statement, span: Span, flow: Spread) {
        let mut require = |widest: Spread, what: &'static str| {
            let divergence = Divergence { what, span };
            if flow > widest && !self.found.contains(&divergence) {
                self.found.push(divergence);
            }
        };
        match *statement {
            Statement::ControlBarrier(barrier) if barrier == naga::Barrier::SUB_GROUP => {
                require(Spread::Subgroup, "subgroup barrier");
            }
            Statement::ControlBarrier(_) => require(Spread::Workgroup, "workgroup barrier"),
            Statement::WorkGroupUniformLoad { result, .. } => {
                require(Spread::Workgroup, "workgroupUniformLoad");
                frame.results.insert(result, Spread::Workgroup);
            }
            Statement::SubgroupBallot { result, .. } => {
                require(Spread::Subgroup, "subgroup ballot");
                frame.results.insert(result, Spread::Subgroup);
            }
            Statement::SubgroupGather { mode, argument, result } => {
                require(Spread::Subgroup, "subgroup broadcast or shuffle");
                let shared = matches!(mode, GatherMode::BroadcastFirst | GatherMode::Broadcast(_));
                let spread = if shared { Spread::Subgroup } else { Spread::Lane };
                frame.results.insert(result, spread.min(frame.spread(argument)));
            }
            Statement::SubgroupCollectiveOperation { op, collective_op, result, .. } => {
                require(Spread::Subgroup, "subgroup reduction");
                let vote = matches!(op, SubgroupOperation::All | SubgroupOperation::Any);
                let reduction = vote || matches!(collective_op, naga::CollectiveOperation::Reduce);
                frame.results.insert(result, if reduction { Spread::Subgroup } else { Spread::Lane });
            }
            Statement::CooperativeStore { .. } => require(Spread::Subgroup, "cooperative matrix store"),
            Statement::Emit(ref range) => {
                let cooperative = |handle| {
                    use Expression::{CooperativeLoad, CooperativeMultiplyAdd};
                    matches!(frame.function.expressions[handle], CooperativeLoad { .. } | CooperativeMultiplyAdd { .. })
                };
                if range.clone().any(cooperative) {
                    require(Spread::Subgroup, "cooperative matrix load or product");
                }
            }
            _ => {}
        }
    }
}

impl Frame<'_> {
    /// The lanes that compute the same value of this expression.
    fn spread(&self, expression: Handle<Expression>) -> Spread {
        self.spreads[expression.index()]
    }

    /// Finds the spread of every expression; operands stand before their uses.
    fn survey(&mut self, module: &Module) {
        self.spreads.clear();
        for (handle, expression) in self.function.expressions.iter() {
            let spread = self.judge(module, handle, expression);
            self.spreads.push(spread);
        }
    }

    fn judge(&self, module: &Module, handle: Handle<Expression>, expression: &Expression) -> Spread {
        let of = |handle: Handle<Expression>| self.spread(handle);
        let of_all = |handles: &[Handle<Expression>]| handles.iter().map(|&h| of(h)).max().unwrap_or_default();
        match expression {
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::Override(_)
            | Expression::ZeroValue(_)
            | Expression::GlobalVariable(_)
            | Expression::LocalVariable(_)
            | Expression::ArrayLength(_) => Spread::Workgroup,
            Expression::Compose { components, .. } => of_all(components),
            Expression::Access { base, index } => of(*base).max(of(*index)),
            Expression::AccessIndex { base, .. } => of(*base),
            Expression::Splat { value, .. } => of(*value),
            Expression::Swizzle { vector, .. } => of(*vector),
            Expression::FunctionArgument(index) => self.arguments.get(*index as usize).copied().unwrap_or(Spread::Lane),
            Expression::Load { pointer } => self.load(module, *pointer),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => of(*expr),
            Expression::Binary { left, right, .. } => of(*left).max(of(*right)),
            Expression::Select { condition, accept, reject } => of_all(&[*condition, *accept, *reject]),
            Expression::Relational { argument, .. } => of(*argument),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                [Some(*arg), *arg1, *arg2, *arg3].into_iter().flatten().map(of).max().unwrap_or_default()
            }
            // Results of statements; before the first walk reaches them they are at their lowest.
            Expression::CallResult(_)
            | Expression::AtomicResult { .. }
            | Expression::WorkGroupUniformLoadResult { .. }
            | Expression::SubgroupBallotResult
            | Expression::SubgroupOperationResult { .. } => self.results.get(&handle).copied().unwrap_or_default(),
            _ => Spread::Lane,
        }
    }

    fn load(&self, module: &Module, pointer: Handle<Expression>) -> Spread {
        let address = self.address(pointer);
        match self.root(pointer) {
            Expression::LocalVariable(variable) => address.max(self.locals.get(variable).copied().unwrap_or_default()),
            Expression::GlobalVariable(variable) => match module.global_variables[*variable].space {
                AddressSpace::Uniform | AddressSpace::Immediate => address,
                AddressSpace::Storage { access } if !access.contains(StorageAccess::STORE) => address,
                _ => Spread::Lane,
            },
            _ => Spread::Lane,
        }
    }

    /// The spread of the indices in a pointer.
    fn address(&self, pointer: Handle<Expression>) -> Spread {
        match self.function.expressions[pointer] {
            Expression::Access { base, index } => self.address(base).max(self.spread(index)),
            Expression::AccessIndex { base, .. } => self.address(base),
            _ => Spread::Workgroup,
        }
    }

    /// The variable that a pointer points into.
    fn root(&self, pointer: Handle<Expression>) -> &Expression {
        match &self.function.expressions[pointer] {
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.root(*base),
            root => root,
        }
    }

    /// Notes that the local variable behind `pointer`, if it is one, holds values of this spread.
    fn raise(&mut self, pointer: Handle<Expression>, spread: Spread) {
        if let Expression::LocalVariable(variable) = *self.root(pointer) {
            let known = self.locals.entry(variable).or_default();
            *known = spread.max(*known);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Divergences of an entry point of 64 lanes with this body.
    fn count(body: &str) -> usize {
        let text = format!(
            "enable f16; enable wgpu_cooperative_matrix;
            @group(0) @binding(0) var<uniform> n: u32;
            @group(0) @binding(1) var<storage, read> table: array<u32>;
            @group(0) @binding(2) var<storage, read_write> memory: array<u32>;
            var<workgroup> tile: array<u32, 64>;
            fn all_together() -> u32 {{ workgroupBarrier(); return 1u; }}
            fn double(v: u32) -> u32 {{ return v * 2u; }}
            var<workgroup> squares: array<f32, 64>;
            fn square() -> coop_mat8x8<f32, C> {{ return coopLoadT<coop_mat8x8<f32, C>>(&squares[0], 8u); }}
            fn keep(square: coop_mat8x8<f32, C>) {{ coopStoreT(square, &squares[0], 8u); }}
            @compute @workgroup_size(64)
            fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
                    @builtin(subgroup_id) subgroup: u32) {{ {body} }}"
        );
        divergences(&naga::front::wgsl::parse_str(&text).unwrap()).len()
    }

    #[test]
    fn uniform_flow_passes() {
        for body in [
            "workgroupBarrier();",
            "if group.x > n { return; } workgroupBarrier();",
            "if lane > 3u { memory[lane] = 1u; } workgroupBarrier();",
            "for (var i = 0u; i < n; i += 1u) { if lane < i { tile[lane] = i; } workgroupBarrier(); }",
            "for (var i = n; i > 0u; i /= 2u) { if lane >= i { continue; } tile[lane] = i; } ",
            "if table[group.x] > 2u { workgroupBarrier(); }",
            "if workgroupUniformLoad(&tile[3]) > 2u { workgroupBarrier(); }",
            "if double(group.x) > all_together() { workgroupBarrier(); }",
            "var last = 0u; loop { if last >= n { break; } last += 1u; workgroupBarrier(); }",
            "if subgroup > 2u { memory[lane] = subgroupAdd(lane); }",
            "if subgroupAny(lane > 7u) { memory[lane] = subgroupAdd(lane); }",
            "switch n { case 1u: { workgroupBarrier(); } default: {} }",
            "for (var i = subgroup; i < n; i += 1u) { keep(square()); }",
        ] {
            assert_eq!(count(body), 0, "{body}");
        }
    }

    #[test]
    fn divergent_flow_is_found() {
        for body in [
            "if lane > 3u { workgroupBarrier(); }",
            "if lane > 3u { return; } workgroupBarrier();",
            "if lane > 3u { return; } memory[lane] = subgroupAdd(lane);",
            "if lane > 3u { memory[0] = subgroupShuffleXor(lane, 1u); }",
            "for (var i = 0u; i < lane; i += 1u) { workgroupBarrier(); }",
            "loop { workgroupBarrier(); if lane > 3u { break; } }",
            "for (var i = 0u; i < n; i += 1u) { if lane > i { continue; } workgroupBarrier(); }",
            "var k = lane; k += 1u; if k > 2u { workgroupBarrier(); }",
            "var k = 0u; if lane > 2u { k = 1u; } if k > 0u { workgroupBarrier(); }",
            "if memory[0] > 2u { workgroupBarrier(); }",
            "if tile[0] > 2u { workgroupBarrier(); }",
            "if table[lane] > 2u { workgroupBarrier(); }",
            "if lane > 3u { _ = all_together(); }",
            "if double(lane) > 3u { workgroupBarrier(); }",
            "if subgroup > 2u { workgroupBarrier(); }",
            "if subgroupAny(lane > 7u) { workgroupBarrier(); }",
            "var k = 0u; loop { k += 1u; if k > lane { break; } } if k > 3u { workgroupBarrier(); }",
            "switch lane { case 1u: { workgroupBarrier(); } default: {} }",
            "let kept = square(); for (var i = lane; i < n; i += 1u) { keep(kept); }",
            "for (var i = lane; i < n; i += 1u) { _ = square(); }",
        ] {
            assert_eq!(count(body), 1, "{body}");
        }
    }
}
