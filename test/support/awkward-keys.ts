/** Keys that are easily sent to the wrong slot, or break code that builds other keys from them. */
export const AWKWARD_KEYS: readonly string[] = [
  '{}',
  '{x}',
  'a{}b}',
  '}{',
  '{',
  '}',
  '{{x}}',
  'a{b}c{d}',
  '*?[',
  'two words',
  ' ',
  '"quoted"\r\n',
  'naïve ключ 鍵 🔑',
  'NUL\u0000inside',
  'x'.repeat(1_000_000),
];
