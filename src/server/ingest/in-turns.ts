/** Asks for each, `atOnce` at a time; the answers are in the order of the questions. */
export async function inTurns<Q, A>(
  questions: readonly Q[],
  atOnce: number,
  ask: (question: Q) => Promise<A>,
): Promise<A[]> {
  const answers: A[] = []
  for (let start = 0; start < questions.length; start += atOnce) {
    answers.push(...(await Promise.all(questions.slice(start, start + atOnce).map(ask))))
  }
  return answers
}
