//! Every parameter by its Hugging Face name, out of and into a model.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use fused_ops::FusedOps;

use crate::{Error, GptNeoX};

/// A parameter's name, shape and values (row-major, f32).
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name in a Hugging Face checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// The gradient of every parameter that has one, under its parameter's name.
pub fn export_gradients<AB>(model: &GptNeoX<AB>, gradients: &GradientsParams) -> Vec<NamedTensor>
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    struct Export<'a> {
        path: Vec<String>,
        gradients: &'a GradientsParams,
        out: Vec<NamedTensor>,
    }
    impl<AB: AutodiffBackend> ModuleVisitor<AB> for Export<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<AB, D>>) {
            if let Some(gradient) = self.gradients.get::<AB::InnerBackend, D>(param.id) {
                self.out.push(named(self.path.join("."), gradient.into_data()));
            }
        }
    }
    let mut export = Export { path: Vec::new(), gradients, out: Vec::new() };
    model.visit(&mut export);
    export.out
}

fn named(name: String, data: TensorData) -> NamedTensor {
    let data = data.convert::<f32>();
    let shape = data.shape.to_vec();
    NamedTensor { name, shape, values: data.into_vec().expect("converted to f32 just above") }
}

/// All parameters, in a fixed order.
pub fn export_parameters<B: FusedOps>(model: &GptNeoX<B>) -> Vec<NamedTensor> {
    struct Export {
        path: Vec<String>,
        out: Vec<NamedTensor>,
    }
    impl<B: FusedOps> ModuleVisitor<B> for Export {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.out.push(named(self.path.join("."), param.val().into_data()));
        }
    }
    let mut export = Export { path: Vec::new(), out: Vec::new() };
    model.visit(&mut export);
    export.out
}

/// The model with each parameter replaced by `source(name, shape)`.
///
/// # Errors
/// The first error of `source`; values of another count than the shape's are a [`Error::Shape`].
pub fn import_parameters<B: FusedOps>(
    model: GptNeoX<B>,
    source: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, Error>,
) -> Result<GptNeoX<B>, Error> {
    struct Import<S> {
        path: Vec<String>,
        source: S,
        error: Option<Error>,
    }
    impl<B: FusedOps, S: FnMut(&str, &[usize]) -> Result<Vec<f32>, Error>> ModuleMapper<B> for Import<S> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let (id, tensor, mapper) = param.consume();
            let shape = tensor.dims();
            let name = self.path.join(".");
            let value = match (self.error.is_some(), (self.source)(&name, &shape)) {
                (true, _) => tensor,
                (false, Ok(values)) if values.len() == shape.iter().product::<usize>() => {
                    Tensor::from_data(TensorData::new(values, shape), &tensor.device()).require_grad()
                }
                (false, Ok(values)) => {
                    self.error = Some(Error::Shape { name, expected: shape.to_vec(), found: vec![values.len()] });
                    tensor
                }
                (false, Err(error)) => {
                    self.error = Some(error);
                    tensor
                }
            };
            Param::from_mapped_value(id, value, mapper)
        }
    }
    let mut import = Import { path: Vec::new(), source, error: None };
    let model = model.map(&mut import);
    match import.error {
        Some(error) => Err(error),
        None => Ok(model),
    }
}
