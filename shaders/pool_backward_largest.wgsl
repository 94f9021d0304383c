// What comes to each element of the input from the windows whose largest it was, one element an invocation. A position is
// only compared, so that no number there does harm. Needs pool_reaching.wgsl.

@group(0) @binding(1) var<storage, read> gy: array<f32>;
// Where in its plane the largest element of each window was.
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> gx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let place = place_of(at);
    let position = place.x * p.width + place.y;
    let rows = rows_reaching(place.x);
    let columns = columns_reaching(place.y);
    let start = at / p.plane * (p.windows_height * p.windows_width);
    let gy_at = p.gy_first + n * p.gy_stride + start;
    let position_at = p.positions_first + n * p.positions_stride + start;
    var sum = 0.0;
    for (var h = rows.x; h < rows.y; h++) {
        for (var w = columns.x; w < columns.y; w++) {
            let window = h * p.gy_pitch + w;
            if positions[position_at + window] == position {
                sum += gy[gy_at + window];
            }
        }
    }
    let to = p.gx_first + n * p.gx_stride + at;
    gx[to] = updated(gx[to], sum);
}
