// Depthwise convolution: one input channel in a group, so that an output is a sum over taps alone. An invocation computes
// TILE_N pixels of one output channel.

@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let block = block_of(workgroup, workgroups);
    if block.group >= p.groups {
        return;
    }
    //@ repeat j in TILE_N
    let number_$j = (block.pixels * TILE_N + $ju) * WORKGROUP + lane;
    let pixel_$j = pixel_of(number_$j, block.group);
    var acc_$j = 0.0;
    //@ end
    let first = p.first_block + block.outputs;
    var w = (p.first_group + block.group) * p.taps * p.vectors + first;
    for (var t = 0u; t < p.taps; t++) {
        let tap = taps[t];
        let weight = weights[w];
        //@ repeat j in TILE_N
        let inside_$j = u32(pixel_$j.row + tap.y) < p.in_h && u32(pixel_$j.column + tap.z) < p.in_w;
        let x_$j = x[select(0u, u32(pixel_$j.x_at + tap.x), inside_$j)];
        acc_$j = fma(select(0.0, x_$j, inside_$j), weight, acc_$j);
        //@ end
        w += p.vectors;
    }
    let b = bias[(p.first_group + block.group) * p.vectors + first];
    //@ repeat j in TILE_N
    if number_$j < p.pixels {
        store(pixel_$j.y_at, block.outputs, acc_$j + b);
    }
    //@ end
}
