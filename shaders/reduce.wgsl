// A workgroup of LANES invocations that work on one result, always in the same order.

var<workgroup> sums: array<f32, LANES>;
var<workgroup> keys: array<u32, LANES>;

// The number of a workgroup among all of a dispatch, folded as in index.wgsl.
fn group_index(group: vec3<u32>, workgroups: vec3<u32>) -> u32 {
    return group.y * workgroups.x + group.x;
}

// The sum over all lanes, in every lane.
fn sum_of_group(lane: u32, sum: f32) -> f32 {
    // Some may still read the last one.
    workgroupBarrier();
    sums[lane] = sum;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half = half / 2u) {
        if lane < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    return sums[0];
}

// The largest key of all lanes (order.wgsl), in every lane.
fn largest_of_group(lane: u32, key: u32) -> u32 {
    workgroupBarrier();
    keys[lane] = key;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half = half / 2u) {
        if lane < half {
            keys[lane] = max(keys[lane], keys[lane + half]);
        }
        workgroupBarrier();
    }
    return keys[0];
}
