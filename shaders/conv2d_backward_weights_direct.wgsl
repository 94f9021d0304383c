// The gradient to the weights, an invocation a pixel: each holds TILE_M outputs x TILE_N products in registers, for every
// pixel of the part that is LANES further; then the workgroup adds up the tiles of its LANES invocations, in order. For few
// outputs or products, and for software drivers.

// The sums of all invocations for four products.
var<workgroup> cells: array<vec4<f32>, LANES * TILE_M>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let block = block_of(workgroup, workgroups);
    if block.part >= p.parts {
        return;
    }
    //@ repeat v in TILE_N / 4
    let products_$v = products_from(block.products * TILE_N + $vu * 4u, block.group);
    //@ end
    //@ repeat i in TILE_M
    let output_$i = output_at(block.outputs * TILE_M + $iu, block.group);
    //@ repeat v in TILE_N / 4
    var acc_$i_$v = vec4<f32>(0.0);
    //@ end
    //@ end
    let start = block.part * p.part + lane;
    let end = min((block.part + 1u) * p.part, p.pixels);
    var pixel = pixel_at(start);
    for (var k = start; k < end; k += LANES) {
        //@ repeat v in TILE_N / 4
        let x_$v = load_x(products_$v, pixel);
        //@ end
        let at = pixel_of_gy(pixel);
        //@ repeat i in TILE_M
        let gy_$i = vec4<f32>(gy[output_$i + at]);
        //@ repeat v in TILE_N / 4
        acc_$i_$v = fma(gy_$i, x_$v, acc_$i_$v);
        //@ end
        //@ end
        pixel = pixel_after(pixel);
    }
    //@ repeat v in TILE_N / 4
    workgroupBarrier();
    //@ repeat i in TILE_M
    cells[lane * TILE_M + $iu] = acc_$i_$v;
    //@ end
    workgroupBarrier();
    for (var cell = lane; cell < TILE_M * 4u; cell += LANES) {
        var sum = 0.0;
        for (var other = 0u; other < LANES; other++) {
            sum += cells[other * TILE_M + cell / 4u][cell % 4u];
        }
        store(block, block.outputs * TILE_M + cell / 4u, block.products * TILE_N + $vu * 4u + cell % 4u, sum);
    }
    //@ end
}
