//! How near one image is to another.

use super::check_pairs;
use crate::error::Result;

/// The mean of the squared differences. NaN of nothing.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) if they are not as many.
pub fn mean_squared_error(a: &[f32], b: &[f32]) -> Result<f64> {
    check_pairs("mean squared error: second image", a.len(), b.len())?;
    let squares = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    Ok(squares.sum::<f64>() / a.len() as f64)
}

/// The peak signal-to-noise ratio in decibels: `10 log10(peak^2 / mean squared error)`, `peak` being the largest value
/// that a pixel can have (1 for images of 0..=1). Infinite for equal images, NaN of nothing.
///
/// ```
/// let db = tilewise_model::metrics::psnr(&[0.0, 1.0], &[0.1, 0.9], 1.0)?;
/// assert!((db - 20.0).abs() < 1e-5);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// As [`mean_squared_error`].
pub fn psnr(a: &[f32], b: &[f32], peak: f32) -> Result<f64> {
    Ok(10.0 * (f64::from(peak).powi(2) / mean_squared_error(a, b)?).log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_worked_by_hand() {
        assert_eq!(mean_squared_error(&[1.0, 2.0], &[3.0, 2.0]).unwrap(), 2.0);
        // 255^2 / 2 = 32512.5, of which 10 log10 is 45.12.
        assert!((psnr(&[1.0, 2.0], &[3.0, 2.0], 255.0).unwrap() - 45.12).abs() < 0.001);
        assert_eq!(psnr(&[0.5], &[0.5], 1.0).unwrap(), f64::INFINITY);
        assert!(psnr(&[], &[], 1.0).unwrap().is_nan());
        assert!(psnr(&[1.0], &[], 1.0).is_err() && mean_squared_error(&[], &[1.0]).is_err());
    }
}
