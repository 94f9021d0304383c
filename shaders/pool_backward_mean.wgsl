// What comes to each element of the input from the windows that it lies in: of each its gradient over the number of
// elements that count; one element an invocation. Needs pool_reaching.wgsl and pool_windows.wgsl.

@group(0) @binding(1) var<storage, read> gy: array<f32>;
@group(0) @binding(2) var<storage, read_write> gx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let place = place_of(at);
    let rows = rows_reaching(place.x);
    let columns = columns_reaching(place.y);
    let gy_at = p.gy_first + n * p.gy_stride + at / p.plane * (p.windows_height * p.windows_width);
    var sum = 0.0;
    for (var h = rows.x; h < rows.y; h++) {
        let height = counted(h * p.stride_height, p.kernel_height, p.padding_height, p.height);
        for (var w = columns.x; w < columns.y; w++) {
            let width = counted(w * p.stride_width, p.kernel_width, p.padding_width, p.width);
            sum += quotient(gy[gy_at + h * p.gy_pitch + w], height * width);
        }
    }
    let to = p.gx_first + n * p.gx_stride + at;
    gx[to] = updated(gx[to], sum);
}
