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
    let block = block_of(workgroup, workgroups);
    if block.group >= p.groups {
        return;
    }
    //@ repeat j in TILE_N
    let number_$j = (block.pixels * TILE_N + $ju) * WORKGROUP + lane;
    let pixel_$j = pixel_of(number_$j, block.group);
    //@ repeat i in TILE_M / 4
    var acc_$i_$j = vec4<f32>(0.0);
    //@ end
    //@ end
    let in_plane = p.in_h * p.in_w;
    let first_vector = (p.first_block + block.outputs) * (TILE_M / 4u);
    var w_tap = ((p.first_group + block.group) * p.taps * p.depth + p.channel) * p.vectors + first_vector;
    for (var t = 0u; t < p.taps; t++) {
        let tap = taps[t];
        //@ repeat j in TILE_N
        let inside_$j = u32(pixel_$j.row + tap.y) < p.in_h && u32(pixel_$j.column + tap.z) < p.in_w;
        var at_$j = select(0u, u32(pixel_$j.x_at + tap.x), inside_$j);
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
    if number_$j < p.pixels {
        //@ repeat i in TILE_M / 4
        {
            let first = block.outputs * TILE_M + $iu * 4u;
            let b = select(vec4<f32>(0.0), bias[(p.first_group + block.group) * p.vectors + first_vector + $iu], (p.ends & 1u) != 0u);
            let sum = acc_$i_$j + b;
            store(pixel_$j.y_at, first, sum.x);
            store(pixel_$j.y_at, first + 1u, sum.y);
            store(pixel_$j.y_at, first + 2u, sum.z);
            store(pixel_$j.y_at, first + 3u, sum.w);
        }
        //@ end
    }
    //@ end
}
