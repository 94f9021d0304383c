//! Builds a U-Net, trains it on drawn cells, and marks the cells of an image that it has not seen.

use tilewise_kernels::{Cpu, Shape4, Tensor};
use tilewise_model::data::{Batch, Cells, Loader};
use tilewise_model::{Loss, Optimiser, Session, Step, Target, metrics::Binary, zoo::UNet};

pub(crate) fn main() -> tilewise_model::Result<()> {
    let data = Cells { count: 48, size: 64, seed: 1 }.generate()?;
    let (train, held_out) = data.split(6)?;

    let net = UNet { base: 8, levels: 3, size: 64, ..UNet::default() }.graph()?;
    let weights = net.init(42);
    let mut session = Session::new(Cpu::new()?, net, &weights)?;

    let loss = Loss::BceDice { smooth: 1.0 };
    let step = Step { loss, optimiser: Optimiser::adam(1e-2), clip_norm: None };
    let (mut loader, mut batch) = (Loader::shuffled(&train, 4, 42)?, Batch::new());
    for epoch in 0..8 {
        loader.start(epoch);
        let mut last = 0.0;
        while loader.next_into(&mut batch)? {
            last = session.train_step(batch.images().view(), Target::Images(batch.masks().view()), &step)?;
        }
        println!("epoch {epoch}: loss {last:.3}");
    }
    session.weights()?.save(std::env::temp_dir().join("unet.safetensors"))?; // loads in PyTorch

    let logits: Tensor = session.infer(held_out.images())?;
    assert_eq!(logits.shape(), Shape4::new(8, 1, 64, 64));
    let dice = Binary::of(logits.data(), held_out.masks()?.data(), 0.0)?.dice();
    println!("Dice on images never seen: {dice:.3}");
    Ok(())
}
