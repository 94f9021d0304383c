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
    let number = workgroup.y * workgroups.x + workgroup.x;
    let pixel_block = number % p.pixel_blocks;
    let output = number / p.pixel_blocks % p.output_blocks;
    let group = number / p.pixel_blocks / p.output_blocks;
    if group >= p.groups {
        return;
    }
    //@ repeat j in TILE_N
    let pixel_$j = (pixel_block * TILE_N + $ju) * WORKGROUP + lane;
    let last_$j = min(pixel_$j, p.pixels - 1u);
    let image_$j = last_$j / p.plane;
    let row_$j = last_$j % p.plane / p.width;
    let column_$j = last_$j % p.plane % p.width;
    let in_row_$j = i32(row_$j * p.step_h);
    let in_column_$j = i32(column_$j * p.step_w);
    let from_$j = i32(p.x_first + image_$j * p.x_stride + group * p.x_group)
        + in_row_$j * i32(p.in_w) + in_column_$j;
    var acc_$j = 0.0;
    //@ end
    let first = p.first_block + output;
    var w = (p.first_group + group) * p.taps * p.vectors + first;
    for (var t = 0u; t < p.taps; t++) {
        let tap = taps[t];
        let weight = weights[w];
        //@ repeat j in TILE_N
        let inside_$j = u32(in_row_$j + tap.y) < p.in_h && u32(in_column_$j + tap.z) < p.in_w;
        let x_$j = x[select(0u, u32(from_$j + tap.x), inside_$j)];
        acc_$j = fma(select(0.0, x_$j, inside_$j), weight, acc_$j);
        //@ end
        w += p.vectors;
    }
    let b = bias[(p.first_group + group) * p.vectors + first];
    //@ repeat j in TILE_N
    if pixel_$j < p.pixels {
        store(
            p.y_first + image_$j * p.y_stride + group * p.y_group + row_$j * p.y_row + column_$j * p.y_column,
            output,
            acc_$j + b,
        );
    }
    //@ end
}
