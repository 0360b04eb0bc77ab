//! How hard a build looks for neighbours, by the number of rows.

use crate::schema::HnswParams;

/// Candidates of a row on the levels above, which need no more whatever `m` is.
const ROOM_ABOVE_MAX: usize = 192;

/// Below so many rows each halving has neighbours looked for harder, so many times at most.
const FEW: usize = 1 << 20;
const HALVINGS_MAX: usize = 6;

/// Of more rows than these fewer candidates are kept, so that a build needs no more than twice the
/// memory of its index.
const MANY: usize = 1 << 21;

/// Of so many rows above level 0 all pairs are compared: their large leaves would have as many pairs
/// in all. Level 0 goes by leaves whatever its size: of all rows the nearest that one keeps might
/// all be of its own tight cluster.
const COMPARED_MAX: usize = 1 << 13;

/// Rows a leader should have, as far as there are not too many of them.
pub(super) const ROWS_PER_LEADER: usize = 75;

/// How hard to look for neighbours.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Effort {
    /// Of up to so many rows all pairs are compared.
    pub(super) compared_max: usize,
    /// Most rows of a leaf.
    pub(super) leaf_max: usize,
    /// Rows for each leader of the divisions behind the first.
    pub(super) rows_per_leader: usize,
    /// Leaders a row goes to in the first and the second division.
    pub(super) fanouts: [usize; 2],
    /// Leaves whose finds are sorted by row together, by one thread.
    pub(super) leaves: usize,
    /// Mates that a row keeps of each leaf.
    pub(super) mates: usize,
    /// Candidates that a row keeps of all leaves, at least.
    pub(super) room: usize,
}

impl Effort {
    /// `ef_construction` says how many leaders a row goes to, ten at its default of 200 and a tenth
    /// more for each halving below `FEW` rows. The levels above lead all walks and have few rows,
    /// so that many more leaders and candidates cost little; a few large leaves find these sooner
    /// than many small ones.
    ///
    /// `angular` rows keep candidates of two kinds, and so no more of each where rows are few: what
    /// is chosen from stays small enough to be compared at once.
    pub(super) fn new(params: &HnswParams, level: u8, rows: usize, angular: bool) -> Self {
        if level == 0 {
            let halvings = (FEW / rows.max(1)).checked_ilog2().unwrap_or(0) as usize;
            let halvings = halvings.min(HALVINGS_MAX);
            return Self {
                compared_max: 0,
                leaf_max: 512,
                rows_per_leader: ROWS_PER_LEADER,
                fanouts: [
                    (params.ef_construction * (10 + halvings) / 200).clamp(2, 32),
                    2,
                ],
                leaves: 16,
                mates: 4,
                room: match (rows > MANY, angular) {
                    (true, _) => params.m0 + params.m0 / 4,
                    (_, true) => params.m0 + params.m0 / 2,
                    _ => params.m0 + params.m0 / 2 + params.m0 * halvings / 16,
                },
            };
        }
        let room = (6 * params.m).min(ROOM_ABOVE_MAX.max(2 * params.m));
        Self {
            compared_max: COMPARED_MAX,
            leaf_max: 1_024,
            rows_per_leader: 512,
            fanouts: [(params.ef_construction * 2 / 25).clamp(2, 32), 1],
            leaves: 4,
            mates: room.min(32),
            room,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewer_the_rows_the_greater_the_effort() {
        let params = HnswParams::default();
        let of = |rows| {
            let effort = Effort::new(&params, 0, rows, false);
            (effort.fanouts[0], effort.room)
        };
        for (rows, effort) in [
            (1, (16, 60)),
            (1 << 14, (16, 60)),
            ((1 << 14) + 1, (15, 58)),
            (50_000, (14, 56)),
            (1 << 19, (11, 50)),
            ((1 << 19) + 1, (10, 48)),
            (1_000_000, (10, 48)),
            (1 << 21, (10, 48)),
            ((1 << 21) + 1, (10, 40)),
            (100_000_000, (10, 40)),
        ] {
            assert_eq!(of(rows), effort, "{rows} rows");
        }
        assert_eq!(Effort::new(&params, 0, 50_000, true).room, 48);
        assert_eq!(Effort::new(&params, 0, 3_000_000, true).room, 40);
        for (ef_construction, leaders) in [(1, 2), (100, 7), (400, 28), (10_000, 32)] {
            let params = HnswParams {
                ef_construction,
                ..params
            };
            let effort = Effort::new(&params, 0, 50_000, false);
            assert_eq!(effort.fanouts[0], leaders, "{ef_construction}");
        }
        let above = |rows| Effort::new(&params, 1, rows, false);
        assert_eq!(above(1), above(1_000_000));
    }
}
