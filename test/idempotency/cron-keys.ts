/** Ticks that were run, and ticks that were fired, once by each process. */
export const RAN_KEY = 'cron:ran';
export const CALLED_KEY = 'cron:called';
