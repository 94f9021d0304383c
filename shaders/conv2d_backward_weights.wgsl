// What the kernels of the gradient to the weights have in common: a product of this matrix product is an input channel's tap,
// and a workgroup sums over a part of the pixels of all images.
//
//     sums[part][output][product] = sum over the pixels of the part of gy[output][pixel] * x[product's channel][pixel, tap]

struct Params {
    // Workgroups: blocks of products, blocks of output channels, groups, parts of the pixels.
    product_blocks: u32,
    output_blocks: u32,
    groups: u32,
    parts: u32,
    // Pixels of all images, of one image, rows, pixels of a row, of a part.
    pixels: u32,
    plane: u32,
    height: u32,
    width: u32,
    part: u32,
    // From one pixel of an invocation to the next: images, rows, columns.
    images_on: u32,
    rows_on: u32,
    columns_on: u32,
    step_h: u32,
    step_w: u32,
    in_h: u32,
    in_w: u32,
    // Taps of the kernel; products and output channels of a group.
    taps: u32,
    products: u32,
    outputs: u32,
    x_first: u32,
    x_stride: u32,
    x_group: u32,
    gy_first: u32,
    gy_stride: u32,
    gy_group: u32,
    // From one output channel to the next, and from one part to the next.
    sums_first: u32,
    sums_row: u32,
    sums_part: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Where a tap reads: elements from the pixel, rows, columns.
@group(0) @binding(1) var<storage, read> taps: array<vec4<i32>>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;

// What a workgroup computes.
struct Block {
    products: u32,
    outputs: u32,
    group: u32,
    part: u32,
}

fn block_of(workgroup: vec3<u32>, workgroups: vec3<u32>) -> Block {
    let number = workgroup.y * workgroups.x + workgroup.x;
    let above = number / p.product_blocks;
    return Block(
        number % p.product_blocks,
        above % p.output_blocks,
        above / p.output_blocks % p.groups,
        above / p.output_blocks / p.groups,
    );
}

struct Pixel {
    image: u32,
    row: u32,
    column: u32,
}

fn pixel_at(k: u32) -> Pixel {
    let at = k % p.plane;
    return Pixel(k / p.plane, at / p.width, at % p.width);
}

// The next pixel of an invocation, without a division.
fn pixel_after(at: Pixel) -> Pixel {
    var next = Pixel(at.image + p.images_on, at.row + p.rows_on, at.column + p.columns_on);
    if next.column >= p.width {
        next.column -= p.width;
        next.row += 1u;
    }
    if next.row >= p.height {
        next.row -= p.height;
        next.image += 1u;
    }
    return next;
}

// Four products; those beyond the last are the last.
struct Products {
    at: vec4<i32>,
    row: vec4<i32>,
    column: vec4<i32>,
}

fn products_from(first: u32, group: u32) -> Products {
    let product = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.products - 1u));
    let tap = product % p.taps;
    let a = taps[tap.x];
    let b = taps[tap.y];
    let c = taps[tap.z];
    let d = taps[tap.w];
    let channel = vec4<i32>(p.x_first + group * p.x_group + product / p.taps * (p.in_h * p.in_w));
    return Products(
        channel + vec4<i32>(a.x, b.x, c.x, d.x),
        vec4<i32>(a.y, b.y, c.y, d.y),
        vec4<i32>(a.z, b.z, c.z, d.z),
    );
}

// What they read for a pixel.
fn load_x(products: Products, pixel: Pixel) -> vec4<f32> {
    let row = i32(pixel.row * p.step_h);
    let column = i32(pixel.column * p.step_w);
    let inside = (vec4<u32>(row + products.row) < vec4<u32>(p.in_h))
        & (vec4<u32>(column + products.column) < vec4<u32>(p.in_w));
    let origin = i32(pixel.image * p.x_stride) + row * i32(p.in_w) + column;
    let at = select(vec4<u32>(0u), vec4<u32>(origin + products.at), inside);
    return select(vec4<f32>(0.0), vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), inside);
}

// Where an output channel lies in gy; one beyond the last is the last.
fn output_at(output: u32, group: u32) -> u32 {
    return p.gy_first + group * p.gy_group + min(output, p.outputs - 1u) * p.plane;
}

fn pixel_of_gy(pixel: Pixel) -> u32 {
    return pixel.image * p.gy_stride + pixel.row * p.width + pixel.column;
}

fn store(block: Block, output: u32, product: u32, sum: f32) {
    if output < p.outputs && product < p.products {
        let row = block.group * p.outputs + output;
        let i = p.sums_first + block.part * p.sums_part + row * p.sums_row + product;
        var total = sum;
        if p.accumulate != 0u {
            total += sums[i];
        }
        sums[i] = total;
    }
}
