// The axes of a DET plot: rates as standard normal deviates, on which normal scores lie on a straight line.

/** Quantile of the standard normal distribution, to 4.5e-4 (Abramowitz and Stegun, 26.2.23). */
export function probit(share: number): number {
  const clipped = Math.min(1 - LEAST_RATE, Math.max(LEAST_RATE, share));
  const tail = Math.sqrt(-2 * Math.log(Math.min(clipped, 1 - clipped)));
  const above = 2.515517 + tail * (0.802853 + tail * 0.010328);
  const below = 1 + tail * (1.432788 + tail * (0.189269 + tail * 0.001308));
  const quantile = tail - above / below;
  return clipped < 0.5 ? -quantile : quantile;
}

/** Rates below cannot be told from none with as many trials as a gallery has. */
export const LEAST_RATE = 0.0001;

export const DET_RATES: readonly number[] = [0.0001, 0.001, 0.01, 0.05, 0.15, 0.3, 0.5];
