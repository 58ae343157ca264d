/** Starts a run and yields its events. Whoever stops iterating, or aborts, ends the run. */
export async function* run(choice, signal) {
  const response = await fetch('/lab/runs', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(choice),
    signal,
  });
  if (!response.ok) throw new Error((await response.json()).detail);
  let text = '';
  for await (const chunk of chunksOf(response.body.pipeThrough(new TextDecoderStream()))) {
    text += chunk;
    const events = text.split('\n\n');
    text = events.pop();
    for (const event of events) {
      const [, data] = /^data: (.*)$/m.exec(event) ?? [];
      if (/^event: error$/m.test(event)) throw new Error(data);
      if (data) yield JSON.parse(data);
    }
  }
}

/** Not every browser iterates over a stream by itself. */
async function* chunksOf(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel();
  }
}
