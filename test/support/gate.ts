/** Work that is known to have begun, and ends when told to, with `value`. */
export function gate<T = undefined>(value?: T) {
  let open!: () => void;
  let arrive!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  const reached = new Promise<void>((resolve) => (arrive = resolve));
  return {
    reached,
    open,
    get passed(): Promise<T> {
      arrive();
      return opened.then(() => value as T);
    },
  };
}
