/** True when questions can be asked and answered; scripts and pipes are never asked anything. */
export function interactive(): boolean {
  return process.stdin.isTTY === true && process.stdout.isTTY === true && process.stderr.isTTY === true
}

// Questions go to stderr: on a terminal, too, stdout holds the result alone.
const context = { output: process.stderr }

/** Asks for a line of text; `check` says what is wrong with one. */
export async function askText(
  message: string,
  options: { fallback?: string; check?: (text: string) => string | undefined } = {},
): Promise<string> {
  const { input } = await import('@inquirer/prompts')
  const { fallback, check } = options
  return input(
    {
      message,
      ...(fallback !== undefined && { default: fallback }),
      ...(check && { validate: (text: string) => check(text) ?? true }),
    },
    context,
  )
}

/** Asks for what nobody may read over a shoulder. */
export async function askSecret(message: string): Promise<string> {
  const { password } = await import('@inquirer/prompts')
  return password({ message }, context)
}

/** Asks to choose one of several. */
export async function askChoice<T extends string>(
  message: string,
  choices: readonly { value: T; name: string }[],
): Promise<T> {
  const { select } = await import('@inquirer/prompts')
  return select({ message, choices: [...choices] }, context)
}
