"""What a worker says to brokers and hears from them: reading, writing, topics. Knows nothing of Faust."""
