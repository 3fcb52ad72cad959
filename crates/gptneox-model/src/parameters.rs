//! Every parameter by its Hugging Face name, out of and into a model.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use fused_ops::{FusedOps, TrainingBackend};

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

/// Calls `visit` for every parameter of a model, with its name, in a fixed order.
fn visit<B: Backend, M: Module<B>>(model: &M, visit: impl VisitParameter<B>) {
    struct Walk<V> {
        path: Vec<String>,
        visit: V,
    }
    impl<B: Backend, V: VisitParameter<B>> ModuleVisitor<B> for Walk<V> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.visit.parameter(self.path.join("."), param);
        }
    }
    model.visit(&mut Walk { path: Vec::new(), visit });
}

/// What is done with each parameter. (A closure cannot be generic in the rank.)
trait VisitParameter<B: Backend> {
    fn parameter<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>);
}

/// The gradient of every parameter that has one, under its parameter's name.
pub fn export_gradients<AB: TrainingBackend>(model: &GptNeoX<AB>, gradients: &GradientsParams) -> Vec<NamedTensor> {
    struct Export<'a>(&'a GradientsParams, &'a mut Vec<NamedTensor>);
    impl<AB: AutodiffBackend> VisitParameter<AB> for Export<'_> {
        fn parameter<const D: usize>(&mut self, name: String, param: &Param<Tensor<AB, D>>) {
            let gradient = self.0.get::<AB::InnerBackend, D>(param.id);
            self.1.extend(gradient.map(|gradient| named(name, gradient.into_data())));
        }
    }
    let mut out = Vec::new();
    visit(model, Export(gradients, &mut out));
    out
}

fn named(name: String, data: TensorData) -> NamedTensor {
    let data = data.convert::<f32>();
    let shape = data.shape.to_vec();
    NamedTensor { name, shape, values: data.into_vec().expect("converted to f32 just above") }
}

/// All parameters, in a fixed order.
pub fn export_parameters<B: FusedOps>(model: &GptNeoX<B>) -> Vec<NamedTensor> {
    struct Export<'a>(&'a mut Vec<NamedTensor>);
    impl<B: Backend> VisitParameter<B> for Export<'_> {
        fn parameter<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>) {
            self.0.push(named(name, param.val().into_data()));
        }
    }
    let mut out = Vec::new();
    visit(model, Export(&mut out));
    out
}

/// Name and shape of all parameters, in the order in which the model is visited.
pub fn parameter_shapes<B: FusedOps>(model: &GptNeoX<B>) -> Vec<(String, Vec<usize>)> {
    struct Shapes<'a>(&'a mut Vec<(String, Vec<usize>)>);
    impl<B: Backend> VisitParameter<B> for Shapes<'_> {
        fn parameter<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>) {
            self.0.push((name, param.val().dims().to_vec()));
        }
    }
    let mut out = Vec::new();
    visit(model, Shapes(&mut out));
    out
}

/// Where a parameter's values come from, by name and shape.
type Values<'a> = dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, Error> + 'a;

/// Makes a model's parameters from their values while its layers are built.
pub(crate) struct Source<'a, B: FusedOps> {
    path: Vec<String>,
    values: &'a mut Values<'a>,
    device: &'a B::Device,
}

impl<'a, B: FusedOps> Source<'a, B> {
    pub(crate) fn new(values: &'a mut Values<'a>, device: &'a B::Device) -> Self {
        Self { path: Vec::new(), values, device }
    }

    /// Builds a part of the model under its name.
    pub(crate) fn within<T>(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.path.push(name.to_owned());
        let part = build(self);
        self.path.pop();
        part
    }

    pub(crate) fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Param<Tensor<B, D>>, Error> {
        let name = format!("{}.{name}", self.path.join("."));
        let values = (self.values)(&name, &shape)?;
        if values.len() != shape.iter().product::<usize>() {
            return Err(Error::Shape { name, expected: shape.to_vec(), found: vec![values.len()] });
        }
        Ok(Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), self.device)))
    }
}
