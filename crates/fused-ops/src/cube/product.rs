//! Matrix products: a vendor's library where the runtime has one, else burn's kernels.

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::Accelerator;
use crate::FusedOps;
use crate::definition::{cast, float, prim};

/// One side of a product: `[M, N]` or a batch of such, of the same type on both sides.
#[derive(Clone)]
pub(crate) struct Side<R: CubeRuntime> {
    /// Row-major; of rank 2 its rows may lie further apart.
    pub(crate) tensor: CubeTensor<R>,
    /// Whether the product reads its last two dimensions the other way round.
    pub(crate) transposed: bool,
}

impl<R: CubeRuntime> Side<R> {
    fn new(tensor: CubeTensor<R>, transposed: bool) -> Self {
        let strides = tensor.meta.strides();
        let rows_apart = tensor.rank() == 2 && strides[1] == 1 && strides[0] >= tensor.shape()[1];
        Self { tensor: if rows_apart { tensor } else { into_contiguous(tensor) }, transposed }
    }

    /// The matrix as it lies in memory: matrices of a batch, rows, columns, elements from row to row.
    pub(crate) fn layout(&self) -> [usize; 4] {
        let shape = self.tensor.shape();
        let [rows, cols] = [shape[shape.num_dims() - 2], shape[shape.num_dims() - 1]];
        let apart = self.tensor.meta.strides()[shape.num_dims() - 2];
        [shape.num_elements() / (rows * cols).max(1), rows, cols, apart]
    }

    /// Rows and columns as the product reads them.
    pub(crate) fn size(&self) -> [usize; 2] {
        let [_, rows, cols, _] = self.layout();
        if self.transposed { [cols, rows] } else { [rows, cols] }
    }

    fn read<B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>>(self) -> CubeTensor<R> {
        if self.transposed { B::float_transpose(self.tensor) } else { self.tensor }
    }
}

/// What a product computes beside its result.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "read by a runtime with a library of products"))]
pub(crate) enum Epilogue<'a, R: CubeRuntime> {
    /// Nothing.
    None,
    /// `[N]`, added to each row of the result; of its type.
    Bias(&'a CubeTensor<R>),
    /// `[M]` in f32, written: the sums of a's rows over what the product sums over.
    RowSums(&'a CubeTensor<R>),
}

/// `a·b`, sums in f32.
pub(crate) struct Product<R: CubeRuntime> {
    pub(crate) a: Side<R>,
    pub(crate) b: Side<R>,
}

impl<R: Accelerator> Product<R> {
    /// `a·b`.
    pub(super) fn new(a: CubeTensor<R>, b: CubeTensor<R>) -> Self {
        Self { a: Side::new(a, false), b: Side::new(b, false) }
    }

    /// `a·bᵀ`.
    pub(super) fn with_transposed(a: CubeTensor<R>, b: CubeTensor<R>) -> Self {
        Self { a: Side::new(a, false), b: Side::new(b, true) }
    }

    /// `aᵀ·b`.
    pub(super) fn of_transposed(a: CubeTensor<R>, b: CubeTensor<R>) -> Self {
        Self { a: Side::new(a, true), b: Side::new(b, false) }
    }

    /// The result in a type, with a bias `[N]` of that type added to each row.
    pub(super) fn run<B>(self, dtype: DType, bias: Option<CubeTensor<R>>) -> CubeTensor<R>
    where
        B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    {
        let out = self.empty(dtype);
        if R::product(&self, &out, bias.as_ref().map_or(Epilogue::None, Epilogue::Bias), false) {
            return out;
        }
        drop(out);
        let out = cast_to::<B, R>(B::float_matmul(self.a.read::<B>(), self.b.read::<B>()), dtype);
        match bias {
            Some(bias) => prim(float::<B, 2>(out) + float::<B, 1>(bias).unsqueeze()),
            None => out,
        }
    }

    /// The result in a type, and the sums of a's rows where the runtime gives them with it.
    pub(super) fn run_with_row_sums<B>(self, dtype: DType) -> (CubeTensor<R>, Option<CubeTensor<R>>)
    where
        B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    {
        if R::gives_row_sums() {
            let sums = super::empty(&self.a.tensor, Shape::from([self.a.size()[0]]), DType::F32);
            let out = self.empty(dtype);
            if R::product(&self, &out, Epilogue::RowSums(&sums), false) {
                return (out, Some(sums));
            }
        }
        (self.run::<B>(dtype, None), None)
    }

    /// A place for the result.
    fn empty(&self, dtype: DType) -> CubeTensor<R> {
        let mut shape = self.a.tensor.shape();
        let rank = shape.num_dims();
        (shape[rank - 2], shape[rank - 1]) = (self.a.size()[0], self.b.size()[1]);
        super::empty(&self.a.tensor, shape, dtype)
    }

    /// The result added to `sum`, which is f32 and unshared.
    pub(super) fn add_to<B>(self, sum: CubeTensor<R>) -> CubeTensor<R>
    where
        B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    {
        if R::product(&self, &sum, Epilogue::None, true) {
            return sum;
        }
        let out = cast_to::<B, R>(B::float_matmul(self.a.read::<B>(), self.b.read::<B>()), sum.dtype);
        B::float_add(sum, out)
    }
}

fn cast_to<B, R>(t: CubeTensor<R>, dtype: DType) -> CubeTensor<R>
where
    B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    R: CubeRuntime,
{
    match t.rank() {
        2 => prim(cast::<B, 2>(float(t), dtype)),
        3 => prim(cast::<B, 3>(float(t), dtype)),
        _ => prim(cast::<B, 4>(float(t), dtype)),
    }
}
