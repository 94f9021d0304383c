// A step of Adam or AdamW, one parameter an invocation.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    g_first: u32,
    g_stride: u32,
    p_first: u32,
    p_stride: u32,
    m_first: u32,
    m_stride: u32,
    v_first: u32,
    v_stride: u32,
    // As in shape/optimiser.rs.
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    step_size: f32,
    root: f32,
    eps: f32,
    decay: f32,
    shrink: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(3) var<storage, read_write> means: array<f32>;
@group(0) @binding(4) var<storage, read_write> squares: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let to = p.p_first + n * p.p_stride + at;
    let mean_to = p.m_first + n * p.m_stride + at;
    let square_to = p.v_first + n * p.v_stride + at;
    var parameter = parameters[to];
    var g = gradients[p.g_first + n * p.g_stride + at];
    if p.decay > 0.0 {
        g = fma(p.decay, parameter, g);
    }
    if p.shrink > 0.0 {
        parameter = fma(-p.shrink, parameter, parameter);
    }
    let mean = fma(p.beta1, means[mean_to], p.rest1 * g);
    let square = fma(p.beta2, squares[square_to], p.rest2 * (g * g));
    means[mean_to] = mean;
    squares[square_to] = square;
    let divisor = fma(square_root(square), p.root, p.eps);
    parameters[to] = fma(-p.step_size, quotient(mean, divisor), parameter);
}
