// The gradient to the weights, as a matrix product outputs x pixels times pixels x products.
//
// A workgroup of GRID x GRID invocations computes a block of outputs x products, an invocation TILE x TILE of it, in registers.
// Slices of SLICE pixels of both factors are brought to shared memory by all together, neighbouring invocations bringing
// neighbouring pixels; each brings BRING vectors of four outputs, and as many of four products.

const SLICE: u32 = 16u;
// Vectors of four outputs, and of four products, in a block.
const BLOCK_OF: u32 = TILE * GRID / 4u;
// Vectors from one pixel to the next: one more, so that neighbours lie in other banks.
const PITCH: u32 = BLOCK_OF + 1u;
const INVOCATIONS: u32 = GRID * GRID;

var<workgroup> a_slice: array<vec4<f32>, SLICE * PITCH>;
var<workgroup> b_slice: array<vec4<f32>, SLICE * PITCH>;

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let block = block_of(workgroup, workgroups);
    if block.part >= p.parts {
        return;
    }
    // What this invocation brings to shared memory.
    let bring = lane % SLICE;
    //@ repeat i in BRING
    let vector_$i = lane / SLICE + $iu * (INVOCATIONS / SLICE);
    let first_output_$i = (block.outputs * BLOCK_OF + vector_$i) * 4u;
    let outputs_$i = vec4<u32>(
        output_at(first_output_$i, block.group),
        output_at(first_output_$i + 1u, block.group),
        output_at(first_output_$i + 2u, block.group),
        output_at(first_output_$i + 3u, block.group),
    );
    let products_$i = products_from((block.products * BLOCK_OF + vector_$i) * 4u, block.group);
    //@ end
    // The tile that it computes.
    let tile_m = lane / GRID;
    let tile_n = lane % GRID;
    //@ repeat i in TILE / 4
    //@ repeat v in TILE / 4
    var acc_$ix_$v = vec4<f32>(0.0);
    var acc_$iy_$v = vec4<f32>(0.0);
    var acc_$iz_$v = vec4<f32>(0.0);
    var acc_$iw_$v = vec4<f32>(0.0);
    //@ end
    //@ end
    let start = block.part * p.part;
    let end = min(start + p.part, p.pixels);
    var next = pixel_at(start + bring);
    for (var first = start; first < end; first += SLICE) {
        // Beyond the last pixel, zeros; whatever is at the first is not counted.
        let there = first + bring < end;
        let pixel = Pixel(select(0u, next.image, there), select(0u, next.row, there), select(0u, next.column, there));
        let at = pixel_of_gy(pixel);
        //@ repeat i in BRING
        let gy_$i = vec4<f32>(
            gy[outputs_$i.x + at],
            gy[outputs_$i.y + at],
            gy[outputs_$i.z + at],
            gy[outputs_$i.w + at],
        );
        a_slice[bring * PITCH + vector_$i] = select(vec4<f32>(0.0), gy_$i, there);
        b_slice[bring * PITCH + vector_$i] = select(vec4<f32>(0.0), load_x(products_$i, pixel), there);
        //@ end
        workgroupBarrier();
        for (var k = 0u; k < SLICE; k++) {
            //@ repeat v in TILE / 4
            let b_$v = b_slice[k * PITCH + $vu * GRID + tile_n];
            //@ end
            //@ repeat i in TILE / 4
            let a_$i = a_slice[k * PITCH + $iu * GRID + tile_m];
            //@ repeat v in TILE / 4
            acc_$ix_$v = fma(vec4<f32>(a_$i.x), b_$v, acc_$ix_$v);
            acc_$iy_$v = fma(vec4<f32>(a_$i.y), b_$v, acc_$iy_$v);
            acc_$iz_$v = fma(vec4<f32>(a_$i.z), b_$v, acc_$iz_$v);
            acc_$iw_$v = fma(vec4<f32>(a_$i.w), b_$v, acc_$iw_$v);
            //@ end
            //@ end
        }
        workgroupBarrier();
        next = pixel_after(next);
    }
    //@ repeat i in TILE / 4
    //@ repeat v in TILE / 4
    {
        let output = (block.outputs * BLOCK_OF + $iu * GRID + tile_m) * 4u;
        let product = (block.products * BLOCK_OF + $vu * GRID + tile_n) * 4u;
        store_products(block, output, product, acc_$ix_$v);
        store_products(block, output + 1u, product, acc_$iy_$v);
        store_products(block, output + 2u, product, acc_$iz_$v);
        store_products(block, output + 3u, product, acc_$iw_$v);
    }
    //@ end
    //@ end
}

fn store_products(block: Block, output: u32, product: u32, four: vec4<f32>) {
    store(block, output, product, four.x);
    store(block, output, product + 1u, four.y);
    store(block, output, product + 2u, four.z);
    store(block, output, product + 3u, four.w);
}
