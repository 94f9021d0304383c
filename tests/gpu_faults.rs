//! What goes wrong with a GPU ends in a typed error, and leaves no wrong result behind.

use std::process::Command;
use std::time::Duration;

use tilewise_bench::gpu;
use tilewise_kernels::{Activation, Backend, Conv2dParams, Error, Gpu, Result, Shape4, Tensor};

/// A GPU that may break; `None`, said aloud, where there is none.
fn own() -> Option<Gpu> {
    gpu::of_tests()?;
    Some(Gpu::new().expect("there is one"))
}

fn input() -> Tensor {
    Tensor::from_fn(Shape4::new(1, 3, 8, 8), |[_, c, h, w]| c as f32 + h as f32 - w as f32).unwrap()
}

/// A convolution of the GPU that has to be right.
fn convolves(gpu: &Gpu) {
    let ones = Tensor::from_fn(Shape4::new(2, 3, 1, 1), |_| 1.0).unwrap();
    let y = gpu.conv2d(&gpu.upload(&input()).unwrap(), &ones, None, Conv2dParams::default()).unwrap();
    let y = gpu.download(&y).unwrap();
    for [h, w] in [[0, 0], [3, 7], [7, 0]] {
        assert_eq!(y.at(0, 1, h, w), 3.0 + 3.0 * (h as f32 - w as f32));
    }
}

#[test]
fn a_destroyed_device_is_lost_to_every_later_call() {
    let Some(gpu) = own() else { return };
    convolves(&gpu);
    let x = gpu.upload(&input()).unwrap();
    let queued = gpu.relu(&x).unwrap();
    gpu.clone().destroy();
    let lost = |what: &str, outcome: Result<()>| {
        assert!(matches!(outcome, Err(Error::DeviceLost { .. })), "{what}: {outcome:?}");
    };
    lost("download", gpu.download(&queued).map(drop));
    lost("relu", gpu.relu(&x).map(drop));
    lost("upload", gpu.upload(&input()).map(drop));
    lost("empty", gpu.empty(Shape4::new(1, 1, 1000, 1000)).map(drop));
    lost("finish", gpu.finish());
    let ones = Tensor::from_fn(Shape4::new(2, 3, 1, 1), |_| 1.0).unwrap();
    lost("conv2d", gpu.conv2d(&x, &ones, None, Conv2dParams::default()).map(drop));
    lost("a kernel that was not built yet", gpu.activation(&x, Activation::Gelu).map(drop));
    if gpu.adapter().timestamps {
        lost("timing", gpu.timed(|| gpu.relu(&x).map(drop)).map(drop));
    }
    gpu.trim();
    gpu.destroy();
}

#[test]
fn a_device_destroyed_in_mid_run_ends_the_run_with_an_error() {
    let Some(gpu) = own() else { return };
    let want =
        Tensor::from_vec(input().shape(), input().data().iter().map(|v| v.max(0.0)).collect()).unwrap();
    let step = || {
        let mut y = gpu.upload(&input())?;
        for _ in 0..20 {
            y = gpu.relu(&y)?;
        }
        gpu.download(&y)
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            loop {
                match step() {
                    // No wrong result, however it ends.
                    Ok(y) => assert_eq!(y, want),
                    Err(error) => return error,
                }
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        gpu.destroy();
        let error = run.join().expect("no panic");
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    });
}

/// Which part of the test below a child process plays.
#[cfg(target_os = "linux")]
const ROLE: &str = "TILEWISE_TEST_ROLE";

/// Address space beyond what the process has after its first convolution.
#[cfg(target_os = "linux")]
const HEADROOM: u64 = 512 << 20;

#[cfg(target_os = "linux")]
#[test]
fn out_of_memory_is_an_error_and_the_device_stays_usable() {
    if gpu::of_tests().is_none() {
        return;
    }
    let measured = child("measure", None);
    let (_, kib) = measured.split_once("VmSize:").unwrap_or_else(|| panic!("no size in {measured}"));
    let kib: u64 = kib.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number of kB");
    let text = child("exhaust", Some(kib + HEADROOM / 1024));
    assert!(text.contains("usable after"), "{text}");
}

/// Runs [`child_allocates`] in a process of its own, in at most so much address space; what it prints.
#[cfg(target_os = "linux")]
fn child(role: &str, limit_kib: Option<u64>) -> String {
    let limit = limit_kib.map_or(String::new(), |kib| format!("ulimit -v {kib} && "));
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" --exact child_allocates --ignored --nocapture")])
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{role}: {}: {text}", output.status);
    text
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by the test above, in little address space"]
fn child_allocates() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let gpu = Gpu::new().unwrap();
    convolves(&gpu);
    if role == "measure" {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        println!("{}", status.lines().find(|line| line.starts_with("VmSize:")).unwrap());
        return;
    }
    let mut kept = Vec::new();
    let error = loop {
        match gpu.empty(Shape4::new(1, 1, 4096, 4096)) {
            Ok(tensor) => kept.push(tensor),
            Err(error) => break error,
        }
        assert!(kept.len() < 64, "4 GiB in half a GiB of address space");
    };
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    // With all of it still held, and after it is given back.
    convolves(&gpu);
    let tensors = kept.len();
    drop(kept);
    gpu.trim();
    convolves(&gpu);
    assert!(gpu.empty(Shape4::new(1, 1, 4096, 4096)).is_ok());
    println!("usable after {tensors} tensors of 64 MiB");
}
