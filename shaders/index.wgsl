// Invocations of a workgroup.
const WORKGROUP: u32 = 64u;

// Terms that one invocation adds up before their sum joins that of others: so the error of a long sum stays small. (Not
// the rounding errors: drivers have been seen to take additions for associative, and those for zero.)
const BLOCK: u32 = 64u;

// The number of an invocation among all of a dispatch. Workgroups beyond what one dimension holds are folded into the
// second.
fn linear_index(id: vec3<u32>, workgroups: vec3<u32>) -> u32 {
    return id.y * (workgroups.x * WORKGROUP) + id.x;
}

fn is_nan(x: f32) -> bool {
    // In the bits, because a driver may take it for granted that x == x.
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
