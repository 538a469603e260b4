/** Float64 linear algebra, as plain as it can be written. */
export type Matrix = number[][];

export const transpose = (a: Matrix): Matrix => a[0]!.map((_, c) => a.map((row) => row[c]!));

export function multiply(a: Matrix, b: Matrix): Matrix {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => row.reduce((sum, x, i) => sum + x * column[i]!, 0)));
}

/** `length` values as rows of `columns`. */
export const toMatrix = (values: ArrayLike<number>, columns: number): Matrix =>
  Array.from({ length: values.length / columns }, (_, r) =>
    Array.from({ length: columns }, (_, c) => values[r * columns + c]!),
  );

/** Eigenvalues of a symmetric matrix, largest first, and their unit vectors as rows (cyclic Jacobi rotations). */
export function eigen(symmetric: Matrix): { values: number[]; vectors: Matrix } {
  const n = symmetric.length;
  const a = symmetric.map((row) => [...row]);
  const v: Matrix = a.map((_, i) => a.map((_, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 60; sweep++)
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (a[p]![q] === 0) continue;
        const theta = Math.atan2(2 * a[p]![q]!, a[q]![q]! - a[p]![p]!) / 2;
        const [c, s] = [Math.cos(theta), Math.sin(theta)];
        for (let k = 0; k < n; k++) {
          const [x, y] = [a[k]![p]!, a[k]![q]!];
          a[k]![p] = c * x - s * y;
          a[k]![q] = s * x + c * y;
        }
        for (let k = 0; k < n; k++) {
          const [x, y] = [a[p]![k]!, a[q]![k]!];
          a[p]![k] = c * x - s * y;
          a[q]![k] = s * x + c * y;
        }
        for (let k = 0; k < n; k++) {
          const [x, y] = [v[p]![k]!, v[q]![k]!];
          v[p]![k] = c * x - s * y;
          v[q]![k] = s * x + c * y;
        }
      }
  const order = a.map((_, i) => i).sort((i, j) => a[j]![j]! - a[i]![i]!);
  return { values: order.map((i) => a[i]![i]!), vectors: order.map((i) => v[i]!) };
}

/** x with a·x = b, by elimination with pivots. */
export function solve(a: Matrix, b: readonly number[]): number[] {
  const rows = a.map((row, i) => [...row, b[i]!]);
  const n = rows.length;
  for (let c = 0; c < n; c++) {
    const pivot = rows
      .slice(c)
      .reduce((best, row, i) => (Math.abs(row[c]!) > Math.abs(rows[best]![c]!) ? c + i : best), c);
    [rows[c], rows[pivot]] = [rows[pivot]!, rows[c]!];
    for (let r = 0; r < n; r++) {
      if (r === c) continue;
      const factor = rows[r]![c]! / rows[c]![c]!;
      for (let k = c; k <= n; k++) rows[r]![k]! -= factor * rows[c]![k]!;
    }
  }
  return rows.map((row, i) => row[n]! / row[i]!);
}

/** Mean and covariance (by 1/n) of the rows of `x`, and the covariance with the rows of `y`: [y columns, x columns]. */
export function moments(x: Matrix, y: Matrix) {
  const mean = (m: Matrix) => transpose(m).map((column) => column.reduce((a, b) => a + b, 0) / m.length);
  const [xMean, yMean] = [mean(x), mean(y)];
  const centred = (m: Matrix, means: number[]) => m.map((row) => row.map((value, i) => value - means[i]!));
  const scale = (m: Matrix) => m.map((row) => row.map((value) => value / x.length));
  const xc = centred(x, xMean);
  return {
    mean: xMean,
    yMean,
    covariance: scale(multiply(transpose(xc), xc)),
    cross: scale(multiply(transpose(centred(y, yMean)), xc)),
  };
}
