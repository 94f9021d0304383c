// Weights as the convolutions read them, [group][tap][channel][output], from a tensor of weights; or a bias, [group][output].

struct Params {
    count: u32,
    outputs: u32,
    channels: u32,
    taps: u32,
    // Where they lie: the first, and the elements from one group, output and channel to the next.
    from_first: u32,
    from_group: u32,
    from_output: u32,
    from_channel: u32,
    // Where they are packed, among so many channels and outputs.
    to_first: u32,
    depth: u32,
    padded: u32,
    // Entries of `taps` for each tap.
    pitch: u32,
    is_bias: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> taps: array<vec4<i32>>;
@group(0) @binding(2) var<storage, read> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> packed: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let output = i % p.outputs;
    let channel = i / p.outputs % p.channels;
    let tap = i / p.outputs / p.channels % p.taps;
    let group = i / p.outputs / p.channels / p.taps;
    var at = p.from_first + group * p.from_group + output * p.from_output + channel * p.from_channel;
    if p.is_bias == 0u {
        at += u32(taps[tap * p.pitch].w);
    }
    packed[p.to_first + ((group * p.taps + tap) * p.depth + channel) * p.padded + output] = values[at];
}
