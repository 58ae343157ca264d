import { judgeHistory, isExplained, renderHistory, type HistoryVerdict } from '../histories/judge.js';
import type { LossWindow } from '../histories/linearizability.js';
import { keptRecordings, removeRecordings, type Recording } from '../histories/recorder.js';

/** The verdict on the history of a soak, and its file. */
export interface SoakHistory extends HistoryVerdict {
  readonly folder: string;
}

export const historyOf = (recording: Recording, losses: readonly LossWindow[] = []): SoakHistory => ({
  ...judgeHistory(recording.read(), losses),
  folder: recording.folder,
});

/** Prints the verdict. @returns whether an order explains all that was answered */
export function tellHistory(history: HistoryVerdict): boolean {
  console.info(renderHistory(history));
  return isExplained(history);
}

/**
 * Runs a soak. Where it fails, by `false` or by an error, it prints the command that repeats it
 * from the same seed, and names the recorded histories, which are kept; else it removes them. The
 * seed repeats what is done, not when.
 */
export async function reproducibly(
  name: string,
  given: Readonly<Record<string, number>>,
  soak: () => Promise<boolean | void>,
): Promise<boolean> {
  const options = Object.entries(given).map(([option, value]) => `--${option} ${value}`);
  const tell = (): void => {
    console.error(`\nagain: npm run soak -- ${[name, ...options].join(' ')}`);
    for (const { folder } of keptRecordings()) console.error(`history: ${folder}`);
  };
  try {
    const isRight = (await soak()) !== false;
    if (isRight) removeRecordings();
    else tell();
    return isRight;
  } catch (error) {
    tell();
    throw error;
  }
}
