//! A grid is one number of workgroups. A dimension of a dispatch ends at 65,535, so it is folded to two; and any grid
//! can be split over several dispatches by `group_offset`.

/// Most workgroups of a dimension, on every adapter.
const DIMENSION: u32 = 65_535;

/// One dispatch of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its first workgroup.
    pub(crate) offset: u32,
    /// Extents of the dispatch.
    pub(crate) x: u32,
    pub(crate) y: u32,
}

/// Splits `groups` workgroups into dispatches of about `most`. Each begins where the one before really ended, its fold
/// included: a kernel cannot see where its piece ends, and a workgroup that ran twice would add twice.
pub(crate) fn pieces(groups: u32, most: u32) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut offset = 0;
    while offset < groups {
        let wanted = (groups - offset).min(most.max(1));
        let y = wanted.div_ceil(DIMENSION);
        let x = wanted.div_ceil(y);
        pieces.push(Piece { offset, x, y });
        offset = offset.saturating_add(x.saturating_mul(y));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workgroup_runs_once() {
        for groups in [1, 2, 3, 65_535, 65_536, 65_537, 131_071, 200_000, 1_000_003] {
            for most in [1_u32, 2, 7, 65_535, 65_536, 70_001, 131_073, u32::MAX] {
                if groups / most > 100_000 {
                    continue;
                }
                let mut next = 0;
                for piece in pieces(groups, most) {
                    assert_eq!(piece.offset, next);
                    assert!(piece.x <= DIMENSION && piece.y <= DIMENSION && piece.x > 0 && piece.y > 0);
                    next += piece.x * piece.y;
                    // Overshoot is less than a row, and only of the last piece.
                    assert!(next < groups + piece.y);
                }
                assert!(next >= groups);
            }
        }
        assert_eq!(pieces(0, 5), []);
    }
}
