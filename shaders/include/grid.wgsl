
// Linear index of this workgroup. A grid is one number of groups, folded to two dimensions because a dimension ends at
// 65,535; group_offset is where this dispatch begins when a grid is split over several. The fold may overshoot: a
// kernel returns when the index is not below params.groups.
fn group_index(workgroup: vec3<u32>, grid: vec3<u32>, group_offset: u32) -> u32 {
    return group_offset + workgroup.y * grid.x + workgroup.x;
}
