type Numbers = Float32Array | Uint16Array;

/** A matrix [rows, columns], in row-major order, as [columns, rows]. */
export function transposed<T extends Numbers>(matrix: T, rows: number, columns: number): T {
  const out = new (matrix.constructor as new (length: number) => T)(rows * columns);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) out[c * rows + r] = matrix[r * columns + c]!;
  return out;
}
