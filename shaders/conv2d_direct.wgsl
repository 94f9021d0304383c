// Convolution, directly: an invocation holds TILE_M output channels of TILE_N pixels in registers. Each input that it reads
// serves TILE_M sums, each weight TILE_N. Nothing is shared between invocations, so that it is right for sums too short
// for a GEMM, and for software drivers, to which shared memory is no faster than any other.
//
//     for each tap, for each channel:  acc[pixel][output] += x[pixel, tap, channel] * weights[tap][channel][output]

@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> x: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let number = workgroup.y * workgroups.x + workgroup.x;
    let pixel_block = number % p.pixel_blocks;
    let output_block = number / p.pixel_blocks % p.output_blocks;
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
    //@ repeat i in TILE_M / 4
    var acc_$i_$j = vec4<f32>(0.0);
    //@ end
    //@ end
    let in_plane = p.in_h * p.in_w;
    let first_vector = (p.first_block + output_block) * (TILE_M / 4u);
    var w_tap = ((p.first_group + group) * p.taps * p.depth + p.channel) * p.vectors + first_vector;
    for (var t = 0u; t < p.taps; t++) {
        let tap = taps[t];
        //@ repeat j in TILE_N
        let inside_$j = u32(in_row_$j + tap.y) < p.in_h && u32(in_column_$j + tap.z) < p.in_w;
        var at_$j = select(0u, u32(from_$j + tap.x), inside_$j);
        //@ end
        var w = w_tap;
        for (var c = 0u; c < p.channels; c++) {
            //@ repeat j in TILE_N
            let x_$j = vec4<f32>(select(0.0, x[at_$j], inside_$j));
            at_$j += in_plane;
            //@ end
            //@ repeat i in TILE_M / 4
            let w_$i = weights[w + $iu];
            //@ repeat j in TILE_N
            acc_$i_$j = fma(x_$j, w_$i, acc_$i_$j);
            //@ end
            //@ end
            w += p.vectors;
        }
        w_tap += p.depth * p.vectors;
    }
    //@ repeat j in TILE_N
    if pixel_$j < p.pixels {
        let to = p.y_first + image_$j * p.y_stride + group * p.y_group + row_$j * p.y_row + column_$j * p.y_column;
        //@ repeat i in TILE_M / 4
        {
            let first = output_block * TILE_M + $iu * 4u;
            let b = select(vec4<f32>(0.0), bias[(p.first_group + group) * p.vectors + first_vector + $iu], (p.ends & 1u) != 0u);
            let sum = acc_$i_$j + b;
            store(to, first, sum.x);
            store(to, first + 1u, sum.y);
            store(to, first + 2u, sum.z);
            store(to, first + 3u, sum.w);
        }
        //@ end
    }
    //@ end
}
