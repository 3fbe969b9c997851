using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Double;

namespace Engine.Lora;

/// <summary>Singular value decompositions on the host, in double precision.</summary>
internal static class SingularValues
{
    /// <summary>The leading <paramref name="rank"/> triplets of a row-major [rows, columns] matrix: U [rows, rank], σ, Vᵀ [rank, columns].</summary>
    public static (double[] U, double[] Sigma, double[] Vt) Truncated(float[] matrix, int rows, int columns, int rank)
    {
        var dense = new DenseMatrix(rows, columns, ToColumnMajor(matrix, rows, columns));
        MathNet.Numerics.LinearAlgebra.Factorization.Svd<double> svd = dense.Svd();
        var u = new double[rows * rank];
        var sigma = new double[rank];
        var vt = new double[rank * columns];
        for (int i = 0; i < rank; i++)
        {
            sigma[i] = svd.S[i];
            for (int r = 0; r < rows; r++)
            {
                u[(r * rank) + i] = svd.U[r, i];
            }

            for (int c = 0; c < columns; c++)
            {
                vt[(i * columns) + c] = svd.VT[i, c];
            }
        }

        return (u, sigma, vt);
    }

    /// <summary>
    /// The singular values of s·B·A without forming it: with B = Q_B·R_B and Aᵀ = Q_A·R_A they are those of the small
    /// s·R_B·R_Aᵀ [rank, rank]. B is [outputs, rank], A [rank, inputs], row-major.
    /// </summary>
    public static double[] OfProduct(float[] b, float[] a, int outputs, int inputs, int rank, double scale)
    {
        Matrix<double> left = Triangle(new DenseMatrix(outputs, rank, ToColumnMajor(b, outputs, rank)));
        Matrix<double> right = Triangle(new DenseMatrix(rank, inputs, ToColumnMajor(a, rank, inputs)).Transpose());
        return [.. (left * right.Transpose() * scale).Svd(computeVectors: false).S];
    }

    // R of the thin QR decomposition; a matrix with fewer rows than columns is its own R.
    private static Matrix<double> Triangle(Matrix<double> matrix) => matrix.RowCount < matrix.ColumnCount
        ? matrix
        : matrix.QR(MathNet.Numerics.LinearAlgebra.Factorization.QRMethod.Thin).R;

    private static double[] ToColumnMajor(float[] matrix, int rows, int columns)
    {
        var result = new double[matrix.Length];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
            {
                result[(c * rows) + r] = matrix[(r * columns) + c];
            }
        }

        return result;
    }
}
