//! What a pass through a network costs.

use tilewise_kernels::Shape4;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::session::WeightedShape;

impl Graph {
    /// Multiply-accumulates of the forward pass for a batch of this shape: those of convolutions and fully connected layers,
    /// beside which all others do not count.
    ///
    /// ```
    /// use tilewise_kernels::Shape4;
    /// let mut net = tilewise_model::Graph::new(Shape4::new(1, 2, 4, 4))?;
    /// let x = net.conv2d("conv", net.input(), 3, 1, Default::default())?;
    /// net.linear("fc", x, 5)?;
    /// assert_eq!(net.macs(Shape4::new(10, 2, 4, 4))?, 10.0 * (2.0 * 3.0 * 16.0 + 3.0 * 16.0 * 5.0));
    /// # Ok::<(), tilewise_model::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn macs(&self, input: Shape4) -> Result<f64> {
        let shapes = self.shapes(input)?;
        let mut macs = 0.0;
        for (i, layer) in self.layers().iter().enumerate().skip(1) {
            let x = shapes[layer.inputs[0].0];
            let own = WeightedShape::of(&layer.op, x);
            let own = own.map_err(|source| Error::Layer { layer: self.name(i), source })?;
            macs += own.map_or(0.0, |shape| shape.macs());
        }
        Ok(macs)
    }
}
