//! After the first run nothing is allocated: counted by the allocator itself, on one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tilewise_bench::check::laws;
use tilewise_kernels::{
    Activation, Adam, Affine, AvgPool2dParams, Axis, BatchNorm, BatchNormGradients, Conv2dAlgo,
    Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan, Conv2dParams, Conv2dPlan, Conv2dShape,
    ConvTranspose2dBackwardInputPlan, ConvTranspose2dBackwardWeightsPlan, ConvTranspose2dParams,
    ConvTranspose2dPlan, ConvTranspose2dShape, CrossEntropy, LinearBackwardInputPlan,
    LinearBackwardWeightsPlan, LinearPlan, LinearShape, MaxPool2dParams, Moments, Padding, PoolShape, Result,
    RunningStats, Sgd, Shape4, Tensor, Training, Update, UpsampleMode,
};
use tilewise_model::data::{Augment, Batch, Cells, Loader, Normalise};

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is being torn down has nothing left to count with.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(p, layout, new_size) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `f` once to warm it up, then twice more, and expects no allocation from those.
fn allocates_nothing(what: &str, mut f: impl FnMut() -> Result<()>) {
    f().unwrap();
    let before = ALLOCATIONS.get();
    f().unwrap();
    f().unwrap();
    assert_eq!(ALLOCATIONS.get() - before, 0, "{what} allocates");
}

fn tensor(n: usize, c: usize, h: usize, w: usize) -> Tensor {
    Tensor::from_fn(Shape4::new(n, c, h, w), |[n, c, h, w]| ((n + 3 * c + 5 * h + 7 * w) % 11) as f32 - 5.0)
        .unwrap()
}

fn tensor_of(shape: Shape4) -> Tensor {
    tensor(shape.n, shape.c, shape.h, shape.w)
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![0u8; 100]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}

#[test]
fn plans_allocate_nothing() {
    for cpu in laws::devices().map(|cpu| cpu.threads(1)) {
        let isa = cpu.isa();
        for (c, o, k, params) in [
            (9, 20, 3, Conv2dParams::default().padding(1)),
            (9, 20, 1, Conv2dParams::default()),
            (8, 16, 3, Conv2dParams::default().padding(1).groups(8).stride(2)),
            (9, 20, 5, Conv2dParams::default().padding(2)),
            (9, 20, 3, Conv2dParams::default().padding(1).stride(2)),
            (3, 20, 7, Conv2dParams::default().padding(3).stride(2)),
        ] {
            let x = tensor(2, c, 13, 17);
            let shape = Conv2dShape::new(x.shape(), o, [k, k], params).unwrap();
            let w = vec![0.5; shape.weights().dims().iter().product()];
            for algo in Conv2dAlgo::ALL.into_iter().filter(|a| a.supports(&shape)) {
                let bias = vec![1.0; o];
                let plan =
                    Conv2dPlan::new(&cpu, shape, &w, Some(&bias), Activation::Gelu, Some(algo)).unwrap();
                let (mut y, mut scratch) = (Tensor::zeros(shape.output()).unwrap(), plan.scratch().unwrap());
                allocates_nothing(&format!("conv2d by {algo} on {isa}"), || {
                    plan.run(x.view(), y.view_mut(), &mut scratch)
                });
            }
        }
        let x = tensor(2, 9, 7, 8);
        let params = ConvTranspose2dParams::default().stride(2).padding(1);
        let shape = ConvTranspose2dShape::new(x.shape(), 5, [3, 3], params).unwrap();
        let plan = ConvTranspose2dPlan::new(&cpu, shape, &[0.5; 9 * 5 * 9], None, Activation::Relu).unwrap();
        let (mut y, mut scratch) = (Tensor::zeros(shape.output()).unwrap(), plan.scratch().unwrap());
        allocates_nothing(&format!("conv_transpose2d on {isa}"), || {
            plan.run(x.view(), y.view_mut(), &mut scratch)
        });

        let shape = LinearShape::new(x.shape(), 21).unwrap();
        let w = vec![0.5; 21 * shape.in_features()];
        let plan = LinearPlan::new(&cpu, shape, &w, None, Activation::Tanh).unwrap();
        let (mut y, mut scratch) = (Tensor::zeros(shape.output()).unwrap(), plan.scratch().unwrap());
        allocates_nothing(&format!("linear on {isa}"), || plan.run(x.view(), y.view_mut(), &mut scratch));
    }
}

const UPDATES: [Update; 2] = [Update::Write, Update::Accumulate];

#[test]
fn plans_of_gradients_allocate_nothing() {
    for cpu in laws::devices().map(|cpu| cpu.threads(1)) {
        let isa = cpu.isa();
        for (text, (c, o, k, params)) in [
            ("3x3", (9, 20, 3, Conv2dParams::default().padding(1))),
            ("strided", (3, 20, 5, Conv2dParams::default().padding(2).stride(2))),
            ("1x1", (9, 20, 1, Conv2dParams::default())),
            ("depthwise", (8, 16, 3, Conv2dParams::default().padding(1).groups(8).stride(2))),
        ] {
            let mut x = tensor(2, c, 13, 17);
            let shape = Conv2dShape::new(x.shape(), o, [k, k], params).unwrap();
            let mut w = tensor_of(shape.weights());
            let gy = tensor_of(shape.output());
            let (what, bias) = (format!("conv2d {text} on {isa}"), vec![1.0; o]);
            for algo in Conv2dAlgo::ALL.into_iter().filter(|a| a.supports(&shape)) {
                let mut plan =
                    Conv2dPlan::new(&cpu, shape, w.data(), Some(&bias), Activation::Relu, Some(algo))
                        .unwrap();
                allocates_nothing(&format!("new weights of {what} by {algo}"), || {
                    plan.set_weights(w.view(), Some(&bias))
                });
            }
            let mut plan = Conv2dBackwardInputPlan::new(&cpu, shape, w.data()).unwrap();
            let mut scratch = plan.scratch().unwrap();
            for update in UPDATES {
                allocates_nothing(&format!("{update:?} gradient to the input of {what}"), || {
                    plan.set_weights(w.view())?;
                    plan.run(gy.view(), x.view_mut(), update, &mut scratch)
                });
            }
            let plan = Conv2dBackwardWeightsPlan::new(&cpu, shape).unwrap();
            let mut scratch = plan.scratch().unwrap();
            for update in UPDATES {
                allocates_nothing(&format!("{update:?} gradient to the weights of {what}"), || {
                    plan.run(x.view(), gy.view(), w.view_mut(), update, &mut scratch)
                });
            }
            let mut gb = tensor(1, o, 1, 1);
            allocates_nothing(&format!("gradient to the bias of {what}"), || {
                Training::bias_backward_into(&cpu, gy.view(), gb.view_mut(), Update::Write)
            });
        }

        let mut x = tensor(2, 9, 7, 8);
        let params = ConvTranspose2dParams::default().stride(2).padding(1);
        let shape = ConvTranspose2dShape::new(x.shape(), 5, [3, 3], params).unwrap();
        let (mut w, gy) = (tensor_of(shape.weights()), tensor_of(shape.output()));
        let mut plan = ConvTranspose2dPlan::new(&cpu, shape, w.data(), None, Activation::Relu).unwrap();
        allocates_nothing(&format!("new weights of conv_transpose2d on {isa}"), || {
            plan.set_weights(w.view(), None)
        });
        let mut plan = ConvTranspose2dBackwardInputPlan::new(&cpu, shape, w.data()).unwrap();
        let mut scratch = plan.scratch().unwrap();
        allocates_nothing(&format!("gradient to the input of conv_transpose2d on {isa}"), || {
            plan.set_weights(w.view())?;
            plan.run(gy.view(), x.view_mut(), Update::Write, &mut scratch)
        });
        let plan = ConvTranspose2dBackwardWeightsPlan::new(&cpu, shape).unwrap();
        let mut scratch = plan.scratch().unwrap();
        allocates_nothing(&format!("gradient to the weights of conv_transpose2d on {isa}"), || {
            plan.run(x.view(), gy.view(), w.view_mut(), Update::Accumulate, &mut scratch)
        });

        let shape = LinearShape::new(x.shape(), 21).unwrap();
        let (mut w, gy) = (tensor_of(shape.weights()), tensor_of(shape.output()));
        let mut plan = LinearPlan::new(&cpu, shape, w.data(), None, Activation::Tanh).unwrap();
        allocates_nothing(&format!("new weights of linear on {isa}"), || plan.set_weights(w.view(), None));
        let mut plan = LinearBackwardInputPlan::new(&cpu, shape, w.data()).unwrap();
        let mut scratch = plan.scratch().unwrap();
        allocates_nothing(&format!("gradient to the input of linear on {isa}"), || {
            plan.set_weights(w.view())?;
            plan.run(gy.view(), x.view_mut(), Update::Write, &mut scratch)
        });
        let plan = LinearBackwardWeightsPlan::new(&cpu, shape).unwrap();
        let mut scratch = plan.scratch().unwrap();
        allocates_nothing(&format!("gradient to the weights of linear on {isa}"), || {
            plan.run(x.view(), gy.view(), w.view_mut(), Update::Accumulate, &mut scratch)
        });
    }
}

/// Every gradient without a plan, into memory that is there, written and added.
#[test]
fn gradients_into_given_memory_allocate_nothing() {
    for cpu in laws::devices().map(|cpu| cpu.threads(1)) {
        let isa = cpu.isa();
        for update in UPDATES {
            let check = |what: &str, f: &mut dyn FnMut() -> Result<()>| {
                allocates_nothing(&format!("{update:?} gradient of {what} on {isa}"), f)
            };
            let (x, gy) = (tensor(2, 6, 12, 18), tensor(2, 6, 12, 18));
            let (halves, means, double) = (tensor(2, 6, 6, 9), tensor(2, 6, 1, 1), tensor(2, 12, 12, 18));
            let (mut gx, mut small) = (tensor(2, 6, 12, 18), tensor(2, 6, 6, 9));
            let mut framed = tensor(2, 6, 14, 20);
            for params in [MaxPool2dParams::new(2), MaxPool2dParams::new(3).stride(2).padding(1)] {
                let mut argmax = cpu.empty_argmax(PoolShape::max(x.shape(), params).unwrap()).unwrap();
                check("max_pool2d", &mut || {
                    cpu.max_pool2d_argmax_into(x.view(), params, small.view_mut(), &mut argmax)?;
                    Training::max_pool2d_backward_into(&cpu, &argmax, halves.view(), gx.view_mut(), update)
                });
            }
            for params in [AvgPool2dParams::new(2), AvgPool2dParams::new(3).stride(2).padding(1)] {
                check("avg_pool2d", &mut || {
                    Training::avg_pool2d_backward_into(&cpu, params, halves.view(), gx.view_mut(), update)
                });
            }
            check("global_avg_pool", &mut || {
                Training::global_avg_pool_backward_into(&cpu, means.view(), gx.view_mut(), update)
            });
            for f in Activation::ALL {
                check(f.name(), &mut || {
                    Training::activation_backward_into(&cpu, x.view(), f, gy.view(), gx.view_mut(), update)
                });
            }
            for axis in Axis::ALL {
                check("softmax", &mut || {
                    Training::softmax_backward_into(&cpu, x.view(), axis, gy.view(), gx.view_mut(), update)
                });
            }
            let (gamma, var) =
                (tensor(1, 6, 1, 1), Tensor::from_fn(Shape4::new(1, 6, 1, 1), |_| 2.0).unwrap());
            let [mut mean, mut inv_std] = [gamma.clone(), gamma.clone()];
            let [mut ggamma, mut gbeta] = [gamma.clone(), gamma.clone()];
            let mut y = tensor(2, 6, 12, 18);
            check("batch_norm in training", &mut || {
                let norm = Affine { gamma: gamma.view(), beta: gamma.view(), eps: 1e-5 };
                let moments = Moments { mean: mean.view_mut(), inv_std: inv_std.view_mut() };
                Training::batch_norm_moments_into(&cpu, x.view(), norm, None, moments, y.view_mut())?;
                let moments = Moments { mean: mean.view(), inv_std: inv_std.view() };
                let gradients =
                    BatchNormGradients { x: gx.view_mut(), gamma: ggamma.view_mut(), beta: gbeta.view_mut() };
                Training::batch_norm_train_backward_into(
                    &cpu,
                    x.view(),
                    gamma.view(),
                    moments,
                    gy.view(),
                    gradients,
                    update,
                )
            });
            check("batch_norm", &mut || {
                let gradients =
                    BatchNormGradients { x: gx.view_mut(), gamma: ggamma.view_mut(), beta: gbeta.view_mut() };
                let (mean, var) = (gamma.view(), var.view());
                Training::batch_norm_backward_into(
                    &cpu,
                    x.view(),
                    gamma.view(),
                    1e-5,
                    mean,
                    var,
                    gy.view(),
                    gradients,
                    update,
                )
            });
            for mode in [UpsampleMode::Nearest, UpsampleMode::Bilinear { align_corners: false }] {
                check("upsample", &mut || {
                    Training::upsample_backward_into(&cpu, mode, gy.view(), small.view_mut(), update)
                });
            }
            check("concat", &mut || {
                Training::concat_backward_into(&cpu, double.view(), 3, gx.view_mut(), update)
            });
            check("add", &mut || Training::add_backward_into(&cpu, gy.view(), gx.view_mut(), update));
            let frame = Padding::from(1);
            check("crop", &mut || {
                Training::crop_backward_into(&cpu, frame, gy.view(), framed.view_mut(), update)
            });
            check("pad", &mut || {
                Training::pad_backward_into(&cpu, frame, framed.view(), gx.view_mut(), update)
            });
        }
    }
}

#[test]
fn calls_into_given_memory_allocate_nothing() {
    for cpu in laws::devices().map(|cpu| cpu.threads(1)) {
        let isa = cpu.isa();
        let check =
            |what: &str, f: &mut dyn FnMut() -> Result<()>| allocates_nothing(&format!("{what} on {isa}"), f);
        let (x, mut same) = (tensor(2, 6, 12, 18), tensor(2, 6, 12, 18));
        let mut halves = tensor(2, 6, 6, 9);
        let mut means = tensor(2, 6, 1, 1);
        let mut double = tensor(2, 12, 12, 18);
        let mut framed = tensor(2, 6, 14, 20);
        check("max_pool2d", &mut || {
            cpu.max_pool2d_into(x.view(), MaxPool2dParams::new(2), halves.view_mut())
        });
        let overlapping = MaxPool2dParams::new(3).stride(2).padding(1);
        check("max_pool2d overlapping", &mut || {
            cpu.max_pool2d_into(x.view(), overlapping, halves.view_mut())
        });
        check("avg_pool2d", &mut || {
            cpu.avg_pool2d_into(x.view(), AvgPool2dParams::new(2), halves.view_mut())
        });
        let overlapping = AvgPool2dParams::new(3).stride(2).padding(1);
        check("avg_pool2d overlapping", &mut || {
            cpu.avg_pool2d_into(x.view(), overlapping, halves.view_mut())
        });
        check("global_avg_pool", &mut || cpu.global_avg_pool_into(x.view(), means.view_mut()));
        for f in Activation::ALL {
            check(f.name(), &mut || cpu.activation_into(x.view(), f, same.view_mut()));
        }
        for axis in Axis::ALL {
            check(&format!("softmax over {axis:?}"), &mut || {
                cpu.softmax_into(x.view(), axis, same.view_mut())
            });
        }
        let (ones, zeros) = ([1.0; 6], [0.0; 6]);
        let norm = BatchNorm { gamma: &ones, beta: &zeros, eps: 1e-5 };
        check("batch_norm", &mut || cpu.batch_norm_into(x.view(), norm, &zeros, &ones, same.view_mut()));
        let (mut mean, mut var) = ([0.0; 6], [1.0; 6]);
        check("batch_norm_train", &mut || {
            let running = RunningStats { mean: &mut mean, var: &mut var, momentum: 0.1 };
            cpu.batch_norm_train_into(x.view(), norm, Some(running), same.view_mut())
        });
        for mode in [UpsampleMode::Nearest, UpsampleMode::Bilinear { align_corners: false }] {
            check(&format!("upsample {mode:?}"), &mut || {
                cpu.upsample_into(halves.view(), mode, same.view_mut())
            });
        }
        check("concat", &mut || cpu.concat_into(&[x.view(), x.view()], double.view_mut()));
        check("add", &mut || cpu.add_into(x.view(), x.view(), same.view_mut()));
        let frame = Padding::from(1);
        check("pad", &mut || cpu.pad_into(x.view(), frame, 0.0, framed.view_mut()));
        check("crop", &mut || cpu.crop_into(framed.view(), frame, same.view_mut()));

        let (target, mut loss) = (tensor(2, 6, 12, 18), tensor(1, 1, 1, 1));
        let (labels, weights) = (vec![3; 2 * 12 * 18], [2.0; 6]);
        let params =
            CrossEntropy { class_weights: Some(&weights), label_smoothing: 0.1, ignore_index: Some(1) };
        let (x, target) = (x.view(), target.view());
        check("cross_entropy", &mut || cpu.cross_entropy_into(x, &labels, params, loss.view_mut()));
        check("bce", &mut || cpu.bce_with_logits_into(x, target, Some(&weights), loss.view_mut()));
        check("mse", &mut || cpu.mse_into(x, target, loss.view_mut()));
        check("l1", &mut || cpu.l1_into(x, target, loss.view_mut()));
        check("dice", &mut || cpu.dice_into(x, target, 1.0, loss.view_mut()));
        for update in [Update::Write, Update::Accumulate] {
            let mut gx = same.view_mut();
            check("cross_entropy_backward", &mut || {
                cpu.cross_entropy_backward_into(x, &labels, params, 1.0, gx.reborrow(), update)
            });
            check("bce_backward", &mut || {
                cpu.bce_with_logits_backward_into(x, target, Some(&weights), 1.0, gx.reborrow(), update)
            });
            check("mse_backward", &mut || cpu.mse_backward_into(x, target, 1.0, gx.reborrow(), update));
            check("l1_backward", &mut || cpu.l1_backward_into(x, target, 1.0, gx.reborrow(), update));
            check("dice_backward", &mut || {
                cpu.dice_backward_into(x, target, 1.0, 1.0, gx.reborrow(), update)
            });
        }

        let [mut p, mut m, mut v] = [(); 3].map(|()| Tensor::zeros(x.shape()).unwrap());
        let (sgd, adam) = (Sgd { momentum: 0.9, ..Sgd::default() }, Adam::default());
        check("sgd", &mut || cpu.sgd_step(&sgd, p.view_mut(), x, Some(m.view_mut())));
        check("adam", &mut || cpu.adam_step(&adam, 1, p.view_mut(), x, m.view_mut(), v.view_mut()));
        check("clip_norm", &mut || cpu.clip_norm_into(p.view_mut(), 1.0, loss.view_mut()));
    }
}

#[test]
fn batches_fill_the_same_memory_again() {
    let set = Cells { count: 10, size: 32, seed: 0 }.generate().unwrap();
    let augment = Augment { shift: 2, ..Augment::symmetries() };
    let mut loader = Loader::shuffled(&set, 4, 1).unwrap().augment(augment);
    loader = loader.normalise(Normalise::of(&set).unwrap()).unwrap();
    let mut batch = Batch::new();
    let mut epoch = 0;
    // Batches of 4, 4 and 2 images: smaller ones, too, stay in their place.
    allocates_nothing("an epoch of batches", || {
        loader.start(epoch);
        epoch += 1;
        while loader.next_into(&mut batch).expect("a batch") {}
        Ok(())
    });
}
