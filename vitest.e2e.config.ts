import { defineConfig } from 'vitest/config'

// Long runs against real processes, started one by one: npm run test:kill, npm run test:memory.
export default defineConfig({
  test: {
    include: ['test/e2e/*.ts'],
    exclude: ['test/e2e/*.test.ts', 'test/e2e/support/**'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/leaks.ts'],
    disableConsoleIntercept: true,
    fileParallelism: false,
    testTimeout: 3_600_000,
    hookTimeout: 120_000,
  },
})
