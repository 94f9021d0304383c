// Convolution as a matrix product over patches that are never unfolded (implicit GEMM): outputs x products times
// products x pixels.
//
// A workgroup of GRID_M x GRID_N invocations computes a block of outputs x pixels, an invocation TILE_M x TILE_N of it, in
// registers. Slices of SLICE products of both factors are brought to shared memory by all together; the pixels of a slice
// come from `load_x`, which is in conv2d_gather.wgsl or conv2d_pointwise.wgsl.

@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;

const SLICE: u32 = 16u;
// Vectors of four outputs, and of four pixels, in a block.
const BLOCK_M: u32 = TILE_M * GRID_M / 4u;
const BLOCK_N: u32 = TILE_N * GRID_N / 4u;
const INVOCATIONS: u32 = GRID_M * GRID_N;

var<workgroup> a_slice: array<vec4<f32>, SLICE * BLOCK_M>;
var<workgroup> b_slice: array<vec4<f32>, SLICE * BLOCK_N>;

// Where four pixels lie; those beyond the last are the last.
struct Pixels {
    image: vec4<u32>,
    row: vec4<u32>,
    column: vec4<u32>,
}

fn pixels_from(first: u32) -> Pixels {
    let pixel = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.pixels - 1u));
    let at = pixel % p.plane;
    return Pixels(pixel / p.plane, at / p.width, at % p.width);
}

// Where they are in the input of a group.
fn input_of(pixels: Pixels, group: u32) -> vec4<u32> {
    return p.x_first + pixels.image * p.x_stride + group * p.x_group
        + pixels.row * (p.step_h * p.in_w) + pixels.column * p.step_w;
}

fn store_pixels(output: u32, sums: vec4<f32>, to: vec4<u32>, count: u32) {
    store(to.x, output, sums.x);
    if count > 1u {
        store(to.y, output, sums.y);
    }
    if count > 2u {
        store(to.z, output, sums.z);
    }
    if count > 3u {
        store(to.w, output, sums.w);
    }
}

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let block = block_of(workgroup, workgroups);
    if block.group >= p.groups {
        return;
    }
    let depth = p.taps * p.depth;
    let first_vector = (p.first_block + block.outputs) * BLOCK_M;
    let w = (p.first_group + block.group) * depth * p.vectors + first_vector;
    // The four pixels that this invocation brings to shared memory.
    let bring = lane % BLOCK_N;
    let pixels = pixels_from((block.pixels * BLOCK_N + bring) * 4u);
    let origin = input_of(pixels, block.group);
    let in_row = vec4<i32>(pixels.row * p.step_h);
    let in_column = vec4<i32>(pixels.column * p.step_w);
    // The tile that it computes.
    let tile_m = lane / GRID_N;
    let tile_n = lane % GRID_N;
    //@ repeat i in TILE_M / 4
    //@ repeat v in TILE_N / 4
    var acc_$ix_$v = vec4<f32>(0.0);
    var acc_$iy_$v = vec4<f32>(0.0);
    var acc_$iz_$v = vec4<f32>(0.0);
    var acc_$iw_$v = vec4<f32>(0.0);
    //@ end
    //@ end
    for (var first = 0u; first < depth; first += SLICE) {
        for (var e = lane; e < SLICE * BLOCK_M; e += INVOCATIONS) {
            let k = first + e / BLOCK_M;
            // Beyond the last product, whatever is there is not counted.
            a_slice[e] = select(vec4<f32>(0.0), weights[w + min(k, depth - 1u) * p.vectors + e % BLOCK_M], k < depth);
        }
        for (var row = lane / BLOCK_N; row < SLICE; row += INVOCATIONS / BLOCK_N) {
            let k = first + row;
            let value = load_x(min(k, depth - 1u), origin, in_row, in_column);
            b_slice[row * BLOCK_N + bring] = select(vec4<f32>(0.0), value, k < depth);
        }
        workgroupBarrier();
        for (var k = 0u; k < SLICE; k++) {
            //@ repeat v in TILE_N / 4
            let b_$v = b_slice[k * BLOCK_N + $vu * GRID_N + tile_n];
            //@ end
            //@ repeat i in TILE_M / 4
            let a_$i = a_slice[k * BLOCK_M + $iu * GRID_M + tile_m];
            //@ repeat v in TILE_N / 4
            acc_$ix_$v = fma(vec4<f32>(a_$i.x), b_$v, acc_$ix_$v);
            acc_$iy_$v = fma(vec4<f32>(a_$i.y), b_$v, acc_$iy_$v);
            acc_$iz_$v = fma(vec4<f32>(a_$i.z), b_$v, acc_$iz_$v);
            acc_$iw_$v = fma(vec4<f32>(a_$i.w), b_$v, acc_$iw_$v);
            //@ end
            //@ end
        }
        workgroupBarrier();
    }
    //@ repeat v in TILE_N / 4
    {
        let first = (block.pixels * BLOCK_N + $vu * GRID_N + tile_n) * 4u;
        let at = pixels_from(first);
        let to = p.y_first + at.image * p.y_stride + block.group * p.y_group + at.row * p.y_row + at.column * p.y_column;
        let count = p.pixels - min(first, p.pixels);
        //@ repeat i in TILE_M / 4
        {
            let vector = $iu * GRID_M + tile_m;
            let output = block.outputs * BLOCK_M * 4u + vector * 4u;
            if count > 0u && output < p.outputs {
                let b = select(
                    vec4<f32>(0.0),
                    bias[(p.first_group + block.group) * p.vectors + first_vector + vector],
                    (p.ends & 1u) != 0u,
                );
                store_pixels(output, acc_$ix_$v + b.x, to, count);
                store_pixels(output + 1u, acc_$iy_$v + b.y, to, count);
                store_pixels(output + 2u, acc_$iz_$v + b.z, to, count);
                store_pixels(output + 3u, acc_$iw_$v + b.w, to, count);
            }
        }
        //@ end
    }
    //@ end
}
