//! Parameters that lie side by side in one arena, as one matrix: a layer multiplies by all of them at once. Each keeps its
//! name, its gradient and its moments; the joined matrix is only another view of the same memory.

use crate::{Dim, Recorder, ScheduleError, Tensor, TensorId};

/// A joined matrix.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The view of all members.
    pub(crate) whole: TensorId,
    /// The view of all their gradients; none where they are frozen.
    pub(crate) gradient: Option<TensorId>,
    pub(crate) members: Vec<TensorId>,
}

impl Recorder {
    /// The parameters `members` (N1, K), (N2, K), ... as one matrix (N1 + N2 + ..., K) called `name`, or, where that was
    /// asked for before, the one of then. A gradient of it is a gradient of every member.
    ///
    /// None where they are no such matrices, or do not lie side by side in this order: some are frozen and others are
    /// not, some are decayed and others are not, an arena ends between them or one is padded, or only some have copies
    /// in half precision.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn joined(&mut self, name: &str, members: &[TensorId]) -> Result<Option<TensorId>, ScheduleError> {
        if let Some(known) = self.joined.iter().find(|known| known.members == members) {
            return Ok(Some(known.whole));
        }
        let Some(whole) = self.side_by_side(members) else { return Ok(None) };
        let of = |pairs: &[(TensorId, TensorId)]| -> Vec<TensorId> {
            let other = |member| pairs.iter().find(|(known, _)| known == member).map(|&(_, other)| other);
            members.iter().filter_map(other).collect()
        };
        let (gradients, copies) = (of(&self.arenas.gradient_of), of(&self.halves.copy_of));
        // Members of one arena are all trained or none is, and gradients lie as they do.
        let gradient = self.side_by_side(&gradients);
        let copy = self.side_by_side(&copies).filter(|_| copies.len() == members.len());
        if copy.is_none() && !copies.is_empty() {
            return Ok(None);
        }
        let wants = members.iter().any(|&member| self.wants_gradient(member));
        let whole = self.push(Tensor { name: name.to_owned(), ..whole })?;
        self.set_wants_gradient(whole, wants);
        let gradient = match gradient {
            Some(tensor) => Some(self.push(Tensor { name: format!("{name}.grad"), ..tensor })?),
            None => None,
        };
        if let Some(tensor) = copy {
            let copy = self.push(Tensor { name: format!("{name}.half"), ..tensor })?;
            self.set_wants_gradient(copy, wants);
            self.halves.copy_of.push((whole, copy));
        }
        self.joined.push(Joined { whole, gradient, members: members.to_vec() });
        Ok(Some(whole))
    }

    /// One matrix over all of these, with the first one's name; none where they do not lie side by side.
    fn side_by_side(&self, matrices: &[TensorId]) -> Option<Tensor> {
        let first = self.tensor(*matrices.first()?);
        let (arena, start) = first.within?;
        let &[_, columns] = first.shape.as_slice() else { return None };
        let mut rows = 0;
        for &id in matrices {
            let tensor = self.tensor(id);
            let &[Dim { extent, .. }, other] = tensor.shape.as_slice() else { return None };
            if other != columns || tensor.within != Some((arena, start + rows * columns.extent)) {
                return None;
            }
            rows += extent;
        }
        Some(Tensor { shape: vec![Dim { name: first.shape[0].name, extent: rows }, columns], ..first.clone() })
    }
}
